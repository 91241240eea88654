"""Small data sets for the tests, and ways to damage them."""

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from rllib_wireless.data import Behaviour, Card, collect, read_card
from rllib_wireless.data.card import write_card
from rllib_wireless.data.format import CARD
from rllib_wireless.data.recorder import Rows

CONFIG: dict[str, Any] = {"num_stations": 3, "episode_slots": 3000}


def small(
    out: Path, steps: int = 400, config: Mapping[str, Any] = CONFIG, rows: Rows = "decisions", **kwargs: Any
) -> Card:
    """A data set of a few hundred rows."""
    return collect(
        "channel_access", config, [Behaviour("csma_ca")], steps, out, num_envs=4, fragment_steps=20, rows=rows, **kwargs
    )


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """All lines, parsed."""
    return [orjson.loads(line) for path in sorted(folder.glob("*.json")) for line in path.open("rb")]


def replace_lines(folder: Path, lines: list[bytes], seal: bool = True) -> None:
    """Put these lines into the first file; `seal` makes the card's checksum fit."""
    path = folder / "part-00000.json"
    path.write_bytes(b"".join(lines))
    if seal:
        seal_card(folder)


def seal_card(folder: Path) -> None:
    """Make the card fit the file, as one who tampers would."""
    card, digest = folder / CARD, hashlib.sha256((folder / "part-00000.json").read_bytes()).hexdigest()
    card.write_text(re.sub(r"sha256: \w+", f"sha256: {digest}", card.read_text()))


def open_card(folder: Path, **changes: Any) -> None:
    """Mark the data set as incomplete, or change other fields of its card."""
    write_card(dataclasses.replace(read_card(folder), **(changes or {"complete": False, "files": ()})), folder)
