"""Benchmarks: speed as ratios against named peers, measured side by side in one run; never asserted by a test."""

import importlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from rllib_wireless.errors import UserError

NAMES = (
    "simulator",
    "radio_resource",
    "production",
    "env_runner",
    "learner",
    "data",
    "federation",
    "ctde_cql",
    "q_learning",
    "trees",
    "sweep",
    "importing",
)
"""Modules of this package, each with `run(quick) -> [{name, value, unit, target, peer}]`."""


def run(
    names: Sequence[str], out: Path | str, *, quick: bool = False, progress: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """Run benchmarks and write `results.json`.

    Args:
        names: Which ones; all if none is given.
        out: Folder to write to.
        quick: Shorter and less exact.
        progress: Told the share that is done.

    Returns:
        `rows`, each with its `benchmark`, and the `machine` and `versions` that they were measured with.

    Raises:
        UserError: At an unknown name.
    """
    chosen = tuple(names) or NAMES
    for name in chosen:
        if name not in NAMES:
            raise UserError(f"there is no benchmark {name!r}; benchmarks are {', '.join(NAMES)}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(chosen, start=1):
        module = importlib.import_module(f"{__name__}.{name}")
        rows += [{"benchmark": name, **row} for row in module.run(quick)]
        if progress is not None:
            progress(number / len(chosen))
    content = {
        "rows": rows,
        "quick": quick,
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("rllib-wireless", "ray", "torch", "numba", "numpy")},
    }
    (out / "results.json").write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return content


def row(
    name: str, value: float | None, unit: str, target: float | None = None, peer: str | None = None
) -> dict[str, Any]:
    """A row of results; with a `target` it is a ratio to a `peer`."""
    return {"name": name, "value": value, "unit": unit, "target": target, "peer": peer}


def best(work: Callable[[], float], repeats: int) -> float:
    """Work per second of CPU time in the fastest of some runs; the first, which compiles, does not count."""
    work()
    rates = []
    for _ in range(repeats):
        start = time.process_time()
        rates.append(work() / (time.process_time() - start))
    return max(rates)


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of two works that took turns: runs next to each other met the same machine."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def cpu_of_all() -> float:
    """CPU seconds of this process, its descendants, and those of them that have ended."""
    import ray  # noqa: F401  # which brings psutil
    import psutil  # type: ignore[import-untyped]  # isort: skip

    total = 0.0
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _cpu() -> str:
    """Name of the processor, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
