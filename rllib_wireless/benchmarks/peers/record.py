"""What a process that runs rounds notes, and what is made of it; both sides of a comparison use it."""

import json
import os
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from rllib_wireless.benchmarks import cpu_of_all

_TIMEOUT_S = 600.0


@dataclass
class Record:
    """What happened in a run of some rounds.

    Attributes:
        times: When the first round began and each one ended, seconds of the system's monotonic clock.
        cpu: CPU seconds of all processes at these times.
        losses: Held-out loss of the model that came into each round, a mean over clients weighted by their rows.
    """

    times: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def stamp(self) -> None:
        """Note the time."""
        self.times.append(time.monotonic())
        self.cpu.append(cpu_of_all())

    def write(self, path: Path | str) -> None:
        """Write it as JSON."""
        Path(path).write_text(json.dumps(asdict(self)))


@dataclass(frozen=True)
class Run:
    """What a process that ran some rounds took.

    Args:
        seconds: Time of a round, a median over all but the first.
        cpu: CPU seconds of a round, of all its processes, likewise.
        start_up: Seconds from the start of Python to the end of the first round, less a round.
        losses: Held-out loss of the model that came into each round.
    """

    seconds: float
    cpu: float
    start_up: float
    losses: list[float]

    @classmethod
    def of(cls, python: str, code: str, out: Path) -> "Run":
        """Run code that writes a `Record` to its variable `out`."""
        # Flower keeps its own files out of the user's home, and reports to nobody.
        quiet = {"OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(out.parent / "flwr")}
        began = time.monotonic()
        done = subprocess.run(
            [python, "-c", f"out = {str(out)!r}; {code}"],
            env=os.environ | quiet,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
        if done.returncode:
            raise RuntimeError(f"{python} failed:\n{done.stderr[-4000:]}")
        record = Record(**json.loads(out.read_text()))
        seconds, cpu = (float(np.median(np.diff(stamps[1:]))) for stamps in (record.times, record.cpu))
        return cls(seconds, cpu, record.times[1] - began - seconds, record.losses)
