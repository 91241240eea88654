"""Griffe extension: docstrings of configurations hold formulas and examples in RLlib's reStructuredText; pages are Markdown."""

import re
from typing import Any

import griffe

_MATH = re.compile(r"^( *)\.\. math:: *(.*)$", re.MULTILINE)
_CODE = re.compile(r"^( *)\.\. code-block:: *(\w+)\n\n((?:\1    .*\n|\n)+)", re.MULTILINE)


class RstBlocks(griffe.Extension):
    """Turns `.. math::` and `.. code-block::` into fenced blocks."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called with everything that has a docstring."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """The text with fenced blocks; code loses its extra indentation."""
    text = _MATH.sub(r"\1```tex\n\1\2\n\1```", text + "\n")
    return _CODE.sub(
        lambda m: f"{m[1]}```{m[2]}\n{re.sub('(?m)^    ', '', m[3]).rstrip()}\n{m[1]}```\n\n", text
    ).rstrip()
