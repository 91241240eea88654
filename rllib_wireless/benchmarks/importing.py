"""How fast a CSV log becomes a data set: the whole import against `pandas.read_csv` alone, in CPU time, and its memory."""

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from rllib_wireless.benchmarks import median_ratio, row
from rllib_wireless.data.importer import import_log

MAPPING = {
    "agent": "station",
    "agents": {f"02:00:00:00:00:{i:02x}": f"station_{i}" for i in range(4)},
    "aligned": True,
    "time": {"column": "time", "step": "10 ms"},
    "gap": "1 s",
    "observations": [
        {"column": "heard", "values": ["idle", "busy", "ok", "collision"]},
        {"sent": 2},
        {"column": "wait_pct", "scale": 0.01, "low": 0, "high": 1},
        {"column": "queue", "scale": 0.1, "low": 0, "high": 1},
    ],
    "actions": {"column": "action", "values": ["defer", "send"]},
    "rewards": {"acked": 1.0, "collided": -1.0},
}
# The system's own mark, as that of `getrusage` begins with what the parent process had.
_PEAK = (
    "import pathlib, sys; from rllib_wireless.data.importer import import_log; import_log(*sys.argv[1:]); "
    "print(pathlib.Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
)


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Import the log of four stations, in order and without mistakes.

    The comparison favours pandas, which only parses, and parses numbers straight from bytes. The import reads, checks and sorts, makes
    transitions of rows and writes them with sha256.

    Args:
        quick: Smaller files.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = 10 if quick else 50
        log = _write(folder / "log.csv", size)
        megabytes = log.stat().st_size / 1e6
        ours, theirs = [], []
        for number in range(2 if quick else 4):
            out = folder / f"out_{number}"
            ours.append(_cpu(partial(import_log, log, MAPPING, out)))
            theirs.append(_cpu(partial(pd.read_csv, log)))
        rows = [
            row("import", megabytes / min(ours), "MB/s"),
            row("pandas.read_csv", megabytes / min(theirs), "MB/s"),
            row("import, times pandas.read_csv", median_ratio(theirs, ours), "x", None, "pandas.read_csv alone"),
        ]
        mapping = folder / "mapping.json"
        mapping.write_bytes(orjson.dumps(MAPPING))
        for number, factor in enumerate((1, 4)):
            large = _write(folder / f"peak_{number}.csv", factor * size)
            peak = peak_mb(large, mapping, folder / f"peak_{number}")
            rows.append(row(f"peak memory, {factor * size} MB", peak, "MB"))
    return rows


def peak_mb(log: Path, mapping: Path, out: Path) -> float:
    """Largest resident memory of a process that imports a log, in MB; Linux only."""
    command = [sys.executable, "-c", _PEAK, str(log), str(mapping), str(out)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1000


def _cpu(work: Any) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _write(path: Path, megabytes: int) -> Path:
    """A log of about so many megabytes."""
    random, t = np.random.default_rng(0), 0
    heard, action = ("idle", "busy", "ok", "collision"), ("defer", "send")
    start = np.datetime64("2026-01-01T00:00:00.000")
    with path.open("w") as file:
        file.write("time,ap,station,rssi_dbm,heard,sent,wait_pct,queue,action,acked,collided,note\n")
        while file.tell() < megabytes * 1e6:
            what, did = random.integers(4, size=(1000, 4)).tolist(), random.integers(2, size=(1000, 4)).tolist()
            wait = (random.random((1000, 4)) * 100).round(2).tolist()
            for step in range(1000):
                now = f"{start + np.timedelta64(10 * t, 'ms')}Z"
                t += 1
                for i in range(4):
                    x, a = what[step][i], did[step][i]
                    file.write(
                        f"{now},ap-1,02:00:00:00:00:{i:02x},-6{i},{heard[x]},{a},{wait[step][i]},{x + 5},{action[a]},"
                        f"{int(a and x < 2)},{int(a and x == 3)},\n"
                    )
    return path
