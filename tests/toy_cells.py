"""Cells of an experiment that say how often they were run; in a module of its own, which worker processes import."""

import os
import signal
import time
from functools import partial
from pathlib import Path

from rllib_wireless.papers.experiment import Cell, Json, Progress


def count(name: str, out: Path, progress: Progress) -> Json:
    """Append to a file that the cell was run."""
    with (out / f"{name}.runs").open("a") as file:
        file.write("run\n")
    return {"value": len(name)}


def die_once(name: str, out: Path, progress: Progress) -> Json:
    """Kill the worker at the first attempt."""
    result = count(name, out, progress)
    if runs(out, name) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def die(name: str, out: Path, progress: Progress) -> Json:
    """Kill the worker at every attempt."""
    count(name, out, progress)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def fail(name: str, out: Path, progress: Progress) -> Json:
    """Raise what nobody expected."""
    count(name, out, progress)
    raise ArithmeticError("too few fingers")


def wait_for_go(name: str, out: Path, progress: Progress) -> Json:
    """Wait until there is a file `go`; write the worker's process id."""
    result = count(name, out, progress)
    (out / "pid.part").write_text(str(os.getpid()))
    (out / "pid.part").rename(out / "pid")
    while not (out / "go").exists():
        time.sleep(0.02)
    return result


def cell(kind: str, name: str) -> Cell:
    """A cell that runs one of the functions above."""
    return Cell(name, partial(globals()[kind], name))


def runs(out: Path, name: str) -> int:
    """How often a cell was begun."""
    return len((out / f"{name}.runs").read_text().splitlines())
