"""Where figures go: a PNG each, or within `vector_graphics` an SVG each, which others may put into a page."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # the backend without a screen, before pyplot
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

_VECTOR: ContextVar[bool] = ContextVar("vector", default=False)

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's colour
    "svg.hashsalt": "rllib-wireless",  # equal figures give equal files
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.framealpha": 0.0,
    "grid.color": "#888888",  # between what pages are and what is written on them, in light as in dark
}


def save(figure: Figure, path: Path, *, dpi: int) -> None:
    """Write a figure and let go of it.

    Args:
        figure: The figure.
        path: The PNG; within `vector_graphics` an SVG of that name is written in its place.
        dpi: Dots per inch of a PNG.
    """
    if _VECTOR.get():
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    else:
        figure.savefig(path, dpi=dpi)
    plt.close(figure)


@contextmanager
def vector_graphics() -> Iterator[None]:
    """Within it, figures are SVG on a transparent ground, whose text is text."""
    token = _VECTOR.set(True)
    try:
        with plt.rc_context(_STYLE):
            yield
    finally:
        _VECTOR.reset(token)
