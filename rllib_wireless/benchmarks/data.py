"""How fast a data set becomes arrays: our reader and its cache against `json.loads` and Ray Data, in CPU time."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rllib_wireless.benchmarks import cpu_of_all, row
from rllib_wireless.data import Behaviour, collect, load_dataset
from rllib_wireless.data.format import COLUMNS, STATE, STATE_COLUMNS, Columns

NUM_AGENTS = 10


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Read the logs of 10 stations.

    Our first read does more than the peers: it checks every value and the sha256, and writes the cache. The peers only parse
    and convert, from files that lie in the memory of the system, as ours do.

    Args:
        quick: A smaller data set, and no Ray Data, which takes most of the time.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    with tempfile.TemporaryDirectory() as folder, _cache_in(Path(folder) / "cache"):
        data = Path(folder) / "data"
        collect(
            "channel_access", {"num_stations": NUM_AGENTS}, [Behaviour("csma_ca")], 5_000 if quick else 40_000, data
        )
        (file,) = data.glob("*.json")
        megabytes = file.stat().st_size / 1e6
        load_dataset(data, use_cache=False)  # compiles
        first = _best(lambda: load_dataset(data), before=lambda: _empty(Path(folder) / "cache"))
        cached = _best(lambda: load_dataset(data), repeats=20)
        touched = _best(lambda: _touch(data), repeats=20)
        parsed = _best(lambda: _parse_with_json(file), repeats=2)
        converted = _best(lambda: _convert_with_json(file), repeats=2)
        rows = [
            row("first read", megabytes / first, "MB/s"),
            row("json.loads into arrays", megabytes / converted, "MB/s"),
            row(
                "first read, times json.loads",
                converted / first,
                "x",
                5.0,
                "json.loads into the same arrays, unchecked",
            ),
            row("first read, times json.loads alone", parsed / first, "x", None, "json.loads, result thrown away"),
            row(
                "cached reload, times the first read",
                first / cached,
                "x",
                20.0,
                "our first read; mapped, nothing read yet",
            ),
            row("cached reload, all values read, times the first read", first / touched, "x", 20.0, "our first read"),
        ]
        if not quick:
            ray_data = _read_with_ray(file)
            rows += [
                row("ray.data into arrays", megabytes / ray_data, "MB/s"),
                row("first read, times ray.data", ray_data / first, "x", 10.0, "ray.data.read_json + map_batches"),
            ]
    return rows


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("RLLIB_WIRELESS_CACHE")
    os.environ["RLLIB_WIRELESS_CACHE"] = str(folder)
    try:
        yield
    finally:
        del os.environ["RLLIB_WIRELESS_CACHE"]
        if before is not None:
            os.environ["RLLIB_WIRELESS_CACHE"] = before


def _best(work: Callable[[], object], repeats: int = 5, before: Callable[[], None] | None = None) -> float:
    """CPU seconds of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        if before is not None:
            before()
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def _empty(folder: Path) -> None:
    for entry in folder.glob("*"):
        entry.unlink()


def _touch(data: Path) -> int:
    """Load from the cache and read every byte, 64 bits at a time where they are so many."""
    rows = load_dataset(data).rows.values()
    arrays = [values.reshape(-1).view(np.uint8) for columns in rows for values in columns.values()]
    return sum(int(np.bitwise_xor.reduce(array[: len(array) // 8 * 8].view(np.uint64))) & 1 for array in arrays)


def _parse_with_json(file: Path) -> None:
    with file.open("rb") as lines:
        for line in lines:
            json.loads(line)


def _convert_with_json(file: Path) -> dict[str, Columns]:
    parts: dict[str, list[Columns]] = {}
    with file.open("rb") as lines:
        for line in lines:
            for name, columns in json.loads(line)["policy_batches"].items():
                parts.setdefault(name, []).append(_arrays(name, columns))
    return {
        name: {c: np.concatenate([part[c] for part in chunks]) for c in chunks[0]} for name, chunks in parts.items()
    }


def _arrays(batch: str, columns: dict[str, list[Any]]) -> Columns:
    known = STATE_COLUMNS if batch == STATE else COLUMNS
    return {name: np.array(values, known[name].dtype) for name, values in columns.items()}


def _read_with_ray(file: Path) -> float:
    """CPU seconds of Ray Data, in this process and in all that Ray started."""
    import ray

    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False, ignore_reinit_error=True
    )
    ray.data.DataContext.get_current().enable_progress_bars = False

    def columns(batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        lines = [part for line in batch["policy_batches"] for name, part in line.items() if name != STATE]
        # Ray makes an array of arrays of what was nested.
        parts = [{c: np.stack(v) if v.dtype == object else v for c, v in part.items()} for part in lines]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def read() -> None:
        ray.data.read_json(str(file)).map_batches(columns, batch_size=16).materialize()

    try:
        read()  # starts the workers
        start = cpu_of_all()
        read()
        return cpu_of_all() - start
    finally:
        ray.shutdown()
