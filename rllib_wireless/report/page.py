"""What a page is made of, and how it becomes HTML."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rllib_wireless import __version__
from rllib_wireless.report.vector import DARK, LIGHT, inline
from rllib_wireless.tables import cell

_FOLDED_FROM = 40
"""Rows from which on a table is folded."""


class Verdict(StrEnum):
    """What a measurement says of a claim."""

    MET = "met"
    NOT_MET = "not met"
    UNDECIDED = "no interval"


@dataclass(frozen=True)
class Text:
    """A paragraph; as `command` something to type."""

    words: str
    command: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Facts:
    """Names with a value each."""

    rows: Sequence[tuple[str, object]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Table:
    """A table; numbers have four digits as those of the command line.

    Args:
        caption: What it shows.
        columns: Names of the columns.
        rows: A value a column.
        folded: Whether it is opened by the reader; if not given, where it is long.
        names: The column that says what a row is about.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    folded: bool | None = None
    names: int = 0
    kind: ClassVar[str] = "table"

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether it holds numbers and nothing else."""
        shown = [[cell(row[k]) for row in self.rows] for k in range(len(self.columns))]
        return [any(column) and all(map(_is_number, filter(None, column))) for column in shown]

    @property
    def is_folded(self) -> bool:
        """Whether the reader opens it."""
        return len(self.rows) >= _FOLDED_FROM if self.folded is None else self.folded


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        caption: What it shows.
        svg: The figure as matplotlib writes it.
        png: Where there is no SVG, the bytes of a PNG.
    """

    caption: str
    svg: str | None = None
    png: bytes | None = None

    def show(self, number: int) -> Markup:
        """As HTML.

        Args:
            number: Of the figure in its page.
        """
        if self.svg is not None:
            return inline(self.svg, f"f{number}-", self.caption)
        image = '<img class="light" alt="{}" src="data:image/png;base64,{}">'
        return Markup(image).format(self.caption, b64encode(self.png or b"").decode())


@dataclass(frozen=True)
class Pictures:
    """Figures, below each other, or small ones side by side."""

    pictures: Sequence[Picture]
    small: bool = False
    kind: ClassVar[str] = "pictures"


Part = Text | Facts | Table | Pictures


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: Sequence[Part] = ()
    sections: Sequence["Section"] = ()


@dataclass(frozen=True)
class Page:
    """All of a page.

    Args:
        title: Its heading.
        lead: What it is about, in a sentence or two.
        source: The file that changed last, which dates the results.
        command: What makes the results again.
        sections: The rest.
    """

    title: str
    lead: str
    source: Path
    command: str | None
    sections: Sequence[Section] = field(default_factory=list)

    def render(self) -> str:
        """As HTML."""
        numbers = _count()
        changed = datetime.fromtimestamp(self.source.stat().st_mtime).astimezone()
        return _TEMPLATES.get_template("page.html").render(
            page=self,
            changed=changed,
            made=datetime.now().astimezone(),
            version=__version__,
            light=LIGHT,
            dark=DARK,
            show=lambda picture: picture.show(next(numbers)),
        )


def _count() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


def _is_number(shown: str) -> bool:
    try:
        float(shown.split(" (")[0].replace(",", ""))
    except ValueError:
        return shown == "-"
    return True


_TEMPLATES = Environment(
    loader=PackageLoader("rllib_wireless.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["cell"] = cell
_TEMPLATES.tests["verdict"] = lambda value: isinstance(value, Verdict)
