"""Cells as tasks of a Ray cluster, one CPU each. A node that dies loses only the cells that it is running: Ray begins them again."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rllib_wireless.papers.experiment import Cell

_RETRIES = 3  # after a node or a worker died; what a cell itself raises is not tried again


@contextmanager
def ray_cluster() -> Iterator[int]:
    """Connect to the cluster that `RAY_ADDRESS` names, unless the caller has done so; yields its number of CPUs."""
    import ray

    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False)
    try:
        yield max(int(ray.cluster_resources().get("CPU", 1)), 1)
    finally:
        if ours:
            ray.shutdown()


def run_as_tasks(
    cells: Sequence[Cell],
    out: Path,
    compute: Callable[[Cell, Path], str | None],
    ended: Callable[[Cell, str | None], None],
) -> None:
    """Run cells on the cluster.

    Args:
        cells: The cells.
        out: Output folder, on storage that all nodes share.
        compute: Computes a cell; returns what went wrong, if anything did.
        ended: Told of each cell that has ended, and what went wrong.
    """
    import ray
    from ray.exceptions import RayError

    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(compute)
    running = {task.remote(cell, out.absolute()): cell for cell in cells}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        try:
            error = ray.get(done)
        except RayError as lost:
            error = f"its worker died {_RETRIES + 1} times: {lost}"
        ended(running.pop(done), error)
