"""Figures as SVG within a page: text and axes have the page's colour, and series one that is seen in light and in dark."""

import colorsys
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from markupsafe import Markup

from rllib_wireless.drawing import vector_graphics

LIGHT, DARK = "#ffffff", "#1a1d23"
"""What figures stand on."""

_LEAST_CONTRAST = 3.0
"""Of what is drawn, by the Web Content Accessibility Guidelines."""

_PIXELS = 4 / 3
"""In a point."""

_TEXT = "{http://www.w3.org/2000/svg}text"

_PAINT = re.compile(r"(fill|stroke): (#[0-9a-f]{6})")


def drawings(draw: Callable[[Path], object]) -> dict[str, str]:
    """What `draw` draws into a folder, as SVG by name; `figure`, which is the main one, first."""
    with tempfile.TemporaryDirectory() as folder, vector_graphics():
        draw(Path(folder))
        paths = sorted(Path(folder).glob("*.svg"), key=lambda path: (path.stem != "figure", path.stem))
        return {path.stem: path.read_text() for path in paths}


def inline(svg: str, prefix: str, label: str) -> Markup:
    """An SVG of matplotlib as a part of a page.

    Args:
        svg: The SVG.
        prefix: Put in front of all IDs, so that those of several figures differ.
        label: What the figure shows; with all that is written in it, this is what those are told who cannot see it.
    """
    root = ElementTree.fromstring(svg)
    told = dict.fromkeys(words for words in ("".join(e.itertext()).strip() for e in root.iter(_TEXT)) if _says(words))
    for parent in list(root.iter()):
        parent.tag = _local(parent.tag)
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
        parent.attrib = {_local(name): _own(name, value, prefix) for name, value in parent.attrib.items()}
    width = float(root.attrib["viewBox"].split()[2]) * _PIXELS
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "style": f"--width: {width:.0f}px",
        "role": "img",
        "aria-label": f"{label} {'; '.join(told)}".strip(),
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def contrast(a: str, b: str) -> float:
    """Of two colours, 1 to 21, by the Web Content Accessibility Guidelines."""
    brighter, darker = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def seen_on(ground: str, color: str) -> str:
    """The colour, made lighter or darker until it is seen on a ground."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    step = -0.01 if _luminance(ground) > 0.5 else 0.01
    while contrast(color, ground) < _LEAST_CONTRAST and 0.0 <= lightness + step <= 1.0:
        lightness += step
        color = "#" + "".join(f"{round(255 * c):02x}" for c in colorsys.hls_to_rgb(hue, lightness, saturation))
    return color


def _says(words: str) -> bool:
    """Whether it is more than the number at a tick."""
    return any(c.isalpha() for c in words)


def _local(name: str) -> str:
    """A name of XML without its namespace, as HTML wants it."""
    return name.rpartition("}")[2]


def _own(name: str, value: str, prefix: str) -> str:
    """An attribute's value with this figure's IDs and the page's colours."""
    if _local(name) == "id":
        return prefix + value
    if _local(name) == "href":
        return value.replace("#", f"#{prefix}", 1)
    if name == "style":
        return _PAINT.sub(_painted, value)
    return value.replace("url(#", f"url(#{prefix}")


def _painted(match: re.Match[str]) -> str:
    what, color = match.groups()
    if color == "#000000":
        return f"{what}: currentColor"
    if color == "#ffffff":
        return f"{what}: var(--card)"
    light, dark = seen_on(LIGHT, color), seen_on(DARK, color)
    # The first declaration is for browsers that do not know the function.
    return f"{what}: {color}; {what}: light-dark({light}, {dark})" if light != dark else f"{what}: {light}"


def _luminance(color: str) -> float:
    parts = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
