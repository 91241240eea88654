"""Cells side by side in worker processes, each with one thread.

A cell belongs to one worker from its beginning to its result, so Ctrl-C, a worker that is killed and a driver that is killed
lose the cells that are running and nothing else. A worker that dies is replaced, and its cell is begun once more.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from rllib_wireless.errors import UserError
from rllib_wireless.papers.experiment import Cell, Json, choose, finished, read_json, result_path, run_cell
from rllib_wireless.papers.tasks import ray_cluster, run_as_tasks

Note = Callable[[str], None]
"""Told one line now and then."""

_ATTEMPTS = 2


def run_side_by_side(
    cells: Sequence[Cell], out: Path, workers: int, note: Note, only: str | None = None
) -> dict[str, Json]:
    """Run the cells that have no result yet. They must not need each other's files.

    Args:
        cells: All cells, those first that are wanted first.
        out: Output folder.
        workers: Processes; where `RAY_ADDRESS` names a Ray cluster, cells are its tasks instead, as many as it has CPUs.
        note: Told which cell is done and about how long the rest will take.
        only: Run none but the cells whose name begins with this.

    Returns:
        The results that exist by now, by the cell's name; each with the `seconds` it took.

    Raises:
        UserError: Where no cell's name begins with `only`, or naming the cells that failed, after all others were run.
    """
    if workers < 1:
        raise UserError(f"workers = {workers}, but it should be at least 1")
    chosen = choose(cells, only)
    missing = [cell for cell in chosen if not result_path(cell, out).exists()]
    if missing and "RAY_ADDRESS" in os.environ:
        with ray_cluster() as cpus:
            estimate = _Estimate(chosen, missing, out, cpus, note)
            run_as_tasks(missing, out, _compute, estimate.add)
            estimate.raise_failures()
    elif missing:
        estimate = _Estimate(chosen, missing, out, workers, note)
        _Pool(missing, out, min(workers, len(missing)), estimate).run()
        estimate.raise_failures()
    return finished(cells, out)


class _Estimate:
    """Says which cells are done, and from the seconds that they took how long the rest will take."""

    def __init__(self, chosen: Sequence[Cell], missing: Sequence[Cell], out: Path, workers: int, note: Note) -> None:
        self._total, self._done, self._workers, self._note = len(chosen), len(chosen) - len(missing), workers, note
        self._left = sum(cell.cost for cell in missing)
        self._cost = self._seconds = 0.0
        self._out = out
        self._failed: dict[str, str] = {}
        if self._done:
            note(f"{self._done} of {self._total} cells were done before")

    def add(self, cell: Cell, error: str | None = None) -> None:
        """A cell has ended."""
        if error is not None:
            self._failed[cell.name] = error.strip().splitlines()[-1]
            self._note(f"{cell.name} failed:\n{error}")
            return
        seconds = read_json(result_path(cell, self._out))["seconds"]
        self._done += 1
        self._left -= cell.cost
        self._cost, self._seconds = self._cost + cell.cost, self._seconds + seconds
        minutes = self._left * self._seconds / self._cost / self._workers / 60
        left = f", about {minutes:.0f} min left" if self._left > 0 else ""
        self._note(f"{self._done} of {self._total}: {cell.name} in {seconds:.0f} s{left}")

    def say(self, line: str) -> None:
        self._note(line)

    def raise_failures(self) -> None:
        if self._failed:
            name, why = next(iter(self._failed.items()))
            raise UserError(f"{len(self._failed)} cells failed: {', '.join(self._failed)}. {name}: {why}")


class _Worker:
    """A process that computes one cell after the other."""

    def __init__(self, out: Path) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self.connection, other = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(other, out), daemon=True)
        self.process.start()
        other.close()
        self.cell: Cell | None = None

    def begin(self, cell: Cell) -> None:
        self.cell = cell
        self.connection.send(cell)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class _Pool:
    def __init__(self, cells: Sequence[Cell], out: Path, workers: int, estimate: _Estimate) -> None:
        self._waiting = deque(cells)
        self._out, self._size, self._estimate = out, workers, estimate
        self._attempts = dict.fromkeys((cell.name for cell in cells), 0)
        self._workers: list[_Worker] = []

    def run(self) -> None:
        try:
            while self._waiting or any(worker.cell for worker in self._workers):
                self._hand_out()
                ready = wait([worker.connection for worker in self._workers])
                for worker in [w for w in self._workers if w.connection in ready]:
                    self._receive(worker)
        finally:
            for worker in self._workers:
                worker.end()

    def _hand_out(self) -> None:
        while self._waiting:
            free = next((worker for worker in self._workers if worker.cell is None), None)
            if free is None:
                if len(self._workers) == self._size:
                    return
                free = _Worker(self._out)
                self._workers.append(free)
            cell = self._waiting.popleft()
            self._attempts[cell.name] += 1
            free.begin(cell)

    def _receive(self, worker: _Worker) -> None:
        cell = worker.cell
        assert cell is not None
        try:
            error: str | None = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker, cell)
            return
        worker.cell = None
        self._estimate.add(cell, error)

    def _replace(self, worker: _Worker, cell: Cell) -> None:
        self._workers.remove(worker)
        worker.end()
        if self._attempts[cell.name] < _ATTEMPTS:
            self._estimate.say(f"the worker of {cell.name} died; the cell is begun once more")
            self._waiting.appendleft(cell)
        else:
            self._estimate.add(cell, "its worker died twice")


def _work(connection: Connection, out: Path) -> None:
    """Compute what is asked for; the answer is what `_compute` returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
    threading.Thread(target=_end_with_driver, daemon=True).start()
    # Read by NumPy and torch when they are imported, which unpickling the first cell does.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    while True:
        try:
            cell: Cell = connection.recv()
        except EOFError:
            return
        connection.send(_compute(cell, out))


def _compute(cell: Cell, out: Path) -> str | None:
    """Compute a cell; returns what went wrong, if anything did."""
    try:
        run_cell(cell, out, lambda name, share: None)
    except UserError as error:
        return str(error)
    except Exception:
        return traceback.format_exc()
    return None


def _end_with_driver() -> None:
    """A driver that is killed cannot end its workers, and two workers must never compute the same cell."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    wait([driver.sentinel])
    os._exit(1)
