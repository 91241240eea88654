"""Experiments as resumable cells, and the results file that figures and pages are made from."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rllib_wireless.errors import UserError

if TYPE_CHECKING:
    from rllib_wireless.policies.evaluation import Evaluation  # brings torch along

Json = dict[str, Any]
Progress = Callable[[str, float], None]
"""Told what is being done and which share of it is."""


@dataclass(frozen=True)
class Cell:
    """One piece of an experiment, computed once.

    Args:
        name: Name of its file in `cells/`, without `.json`.
        run: Computes it, given the output folder and where to report progress.
        cost: How long it takes beside the others; the estimate of the time that is left comes from it.
    """

    name: str
    run: Callable[[Path, Progress], Json]
    cost: float = 1.0


@dataclass(frozen=True)
class Claim:
    """What a paper says, beside what was measured.

    Args:
        id: Short name.
        claim: The claim in our words.
        paper: Where the paper makes it.
        measured: The number that decides.
        interval: Its 95 % interval.
        met: Whether it holds here.
    """

    id: str
    claim: str
    paper: str
    measured: float
    interval: tuple[float, float]
    met: bool


def run_cells(cells: Sequence[Cell], out: Path, progress: Progress, only: str | None = None) -> dict[str, Json]:
    """Run the cells that have no result yet, in order.

    Args:
        cells: All cells; later ones may use files that earlier ones wrote below `out`.
        out: Output folder.
        progress: Where to report to.
        only: Run none but the cells whose name begins with this.

    Returns:
        The results that exist by now, by the cell's name; each with the `seconds` it took.

    Raises:
        UserError: Where no cell's name begins with `only`.
    """
    for cell in choose(cells, only):
        run_cell(cell, out, progress)
        progress(cell.name, 1.0)
    return finished(cells, out)


def choose(cells: Sequence[Cell], only: str | None) -> list[Cell]:
    """The cells whose name begins with `only`.

    Raises:
        UserError: Where there is none.
    """
    chosen = [cell for cell in cells if only is None or cell.name.startswith(only)]
    if not chosen:
        names = [cell.name for cell in cells]
        shown = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
        raise UserError(f"there is no cell {only!r}; cells are {shown}")
    return chosen


def run_cell(cell: Cell, out: Path, progress: Progress) -> None:
    """Compute a cell, unless its result is there."""
    path = result_path(cell, out)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        begin = time.perf_counter()
        result = cell.run(out, progress)
        write_json(path, {**result, "seconds": round(time.perf_counter() - begin, 1)})


def result_path(cell: Cell, out: Path) -> Path:
    """Where a cell's result is kept."""
    return out / "cells" / f"{cell.name}.json"


def finished(cells: Sequence[Cell], out: Path) -> dict[str, Json]:
    """The results that exist by now, by the cell's name."""
    return {cell.name: read_json(path) for cell in cells if (path := result_path(cell, out)).exists()}


def write_results(
    out: Path, paper: str, scale: str, claims: Sequence[Claim], settings: Mapping[str, Any], results: Mapping[str, Json]
) -> Json:
    """Write `results.json`: claims, settings, versions, seconds, and every number that a figure shows.

    Args:
        out: Output folder.
        paper: Name of the paper's module.
        scale: `demo` or `paper`.
        claims: The claims.
        settings: What the experiment was run with, seeds included.
        results: Numbers by name.
    """
    content = {
        "paper": paper,
        "scale": scale,
        "claims": [asdict(claim) for claim in claims],
        "settings": dict(settings),
        "versions": {name: version(name) for name in ("rllib-wireless", "ray", "torch", "numpy")}
        | {"python": platform.python_version()},
        **results,
    }
    write_json(out / "results.json", content)
    return content


def record(evaluation: "Evaluation") -> Json:
    """An evaluation as JSON, with its raw statistics, so that it can be paired with others later."""
    return {**asdict(evaluation), "statistics": {k: v.tolist() for k, v in evaluation.statistics.items()}}


def write_json(path: Path, content: Json) -> None:
    """Write a file as a whole or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    part.replace(path)


def read_json(path: Path) -> Json:
    """Read what `write_json` wrote.

    Raises:
        UserError: Where the file is no JSON object, as after somebody edited it.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}; delete it to compute it anew") from None
    return content if isinstance(content, dict) else {}
