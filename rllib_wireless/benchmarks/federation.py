"""What federation costs: CPU time of a round against pooled training, and rounds per second against Flower's simulation."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rllib_wireless.algorithms.fedmorl.aggregation import aggregate
from rllib_wireless.algorithms.fedmorl.client import ClientGroup, load_rows
from rllib_wireless.algorithms.fedmorl.federation import Federation
from rllib_wireless.algorithms.fedmorl.layout import Rows
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.stack import Stack
from rllib_wireless.algorithms.fedmorl.statistics import Statistics, merge_statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights, WorldModel
from rllib_wireless.benchmarks import cpu_of_all, median_ratio, row
from rllib_wireless.benchmarks.peers.flower import (
    NUM_CPUS,
    VARIABLE,
    find_flower,
    read_start,
    simulate,
    write_start,
)
from rllib_wireless.benchmarks.peers.python import PeerPython
from rllib_wireless.benchmarks.peers.record import Record, Run
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.data.store import client_folders

NUM_CLIENTS = 8
_NO_VALIDATION = 1e-9  # of a client's rows; one row is still held out
_LARGE_BATCH = 2048
_FLOWER = "Flower's simulation"
_POOLED = "one world model on all clients' rows, the same number of samples"


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure the federated phase of FedMORL with 8 clients and its default settings.

    Pooled training is favoured: it is a bare loop that keeps its network and optimizer, while clients make theirs anew in each
    round, judge the model that came in on their held-out rows, and send theirs; the server averages. All of that counts.
    Cost is CPU time per row of a gradient step, of all processes and with Ray's own where there are actors.

    Flower is favoured, too: its clients keep their rows in its workers, and read the sums over all rows from a file instead of
    being sent them. Both sides begin with the same model, and a client does the same steps on the same rows in both.

    Args:
        quick: Fewer rows and steps, and neither actors nor Flower, whose processes take most of the time.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    torch.set_num_threads(1)
    flower = None if quick else find_flower()
    local_steps = 10 if quick else FedMORLSettings().local_steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, 2_000 if quick else 40_000)
        rows = cost_rows(folder, local_steps, turns=1 if quick else 5, num_actors=0 if quick else NUM_CPUS)
        if quick:
            return rows
        return rows + race_rows(folder, flower, rounds=10, local_steps=local_steps, repeats=3)


def prepare(folder: Path, decisions: int) -> None:
    """Collect CSMA/CA of 8 stations into `clients`, and write the model that all runs begin with.

    Args:
        folder: Where to.
        decisions: Joint decisions.
    """
    collect(
        "channel_access",
        {"num_stations": NUM_CLIENTS},
        [Behaviour("csma_ca")],
        decisions,
        folder / "clients",
        split="agents",
    )
    settings = FedMORLSettings()
    group = ClientGroup(client_folders(folder / "clients"), settings, folder / "state", seed=0)
    sums = merge_statistics(list(group.statistics().values()))
    generator = torch.Generator().manual_seed(0)
    write_start(folder, WorldModel(group.layout, sums, settings.model_hiddens, generator=generator).weights(), sums)


@dataclass
class Rounds:
    """The server of the federated phase: each call is a round.

    Args:
        federation: The clients.
        weights: The global model.
        sums: Over all clients' rows.
        clock: CPU seconds of all who take part. Where other processes do, their ticks make it as coarse as 10 ms.
        number: Of the next round.
    """

    federation: Federation
    weights: Weights
    sums: Statistics
    clock: Callable[[], float] = time.process_time
    number: int = 0

    @classmethod
    def start(cls, folder: Path, num_actors: int, **settings: Any) -> "Rounds":
        """A federation that begins with the model in a folder."""
        federation = Federation(
            client_folders(folder / "clients"),
            FedMORLSettings(**settings),
            folder / "state",
            0,
            num_actors=num_actors,
            timeout_s=600.0,
            restore_s=60.0,
        )
        return cls(federation, *read_start(folder), clock=cpu_of_all if num_actors else time.process_time)

    def __call__(self) -> float:
        """Run a round; returns the held-out loss of the model that came in."""
        answers = self.federation.ask("train_model", weights=self.weights, statistics=self.sums, round=self.number)
        updates = list(answers.values())
        self.weights = aggregate(updates, "fedavg")
        self.number += 1
        losses = [update.metrics["validation_loss"] for update in updates]
        return float(np.average(losses, weights=[update.num_samples for update in updates]))


def cost_rows(folder: Path, local_steps: int, *, turns: int, num_actors: int) -> list[dict[str, Any]]:
    """CPU time per sample of a round and of pooled training, which take turns so that all meet the same machine.

    Args:
        folder: As `prepare` left it.
        local_steps: Gradient steps of a client in a round.
        turns: How often each is measured; the first turns, which warm up, do not count.
        num_actors: Actors to measure beside clients in this process; 0 leaves them out.
    """
    settings = FedMORLSettings()
    samples = NUM_CLIENTS * local_steps * settings.model_batch_size
    hosts = {"one process": 0} | ({f"{num_actors} actors": num_actors} if num_actors else {})
    shares = {"": settings.validation_share, ", validation left out": _NO_VALIDATION}
    base, large = (f"pooled training, batches of {size}" for size in (settings.model_batch_size, _LARGE_BATCH))
    works: dict[str, Callable[[], object]] = {
        base: _pooled(folder, settings.model_batch_size, samples),
        large: _pooled(folder, _LARGE_BATCH, samples),
    }
    with _ray(len(shares) * num_actors):
        rounds = {
            f"round of {NUM_CLIENTS} clients in {host}{what}": Rounds.start(
                folder, actors, local_steps=local_steps, validation_share=share
            )
            for host, actors in hosts.items()
            for what, share in shares.items()
        }
        cost = {name: [1e6 * s / samples for s in t] for name, t in _take_turns(works | rounds, turns).items()}
    rows = [row(f"{name}, CPU time per sample", statistics.median(values), "us") for name, values in cost.items()]
    for peer, target in ((base, 1.3), (large, None)):
        rows += [
            row(f"{name}, times {peer}", median_ratio(cost[name], cost[peer]), "x", target, f"{_POOLED}; {peer}")
            for name in rounds
        ]
    return rows


def race_rows(
    folder: Path, flower: PeerPython | None, *, rounds: int, local_steps: int, repeats: int
) -> list[dict[str, Any]]:
    """Rounds per second of ours and of Flower's simulation, in processes of their own that take turns.

    Args:
        folder: As `prepare` left it.
        flower: Where Flower is; without it only ours are measured, and a row says so.
        rounds: In each run, at least 3; the first counts as start-up.
        local_steps: Gradient steps of a client in a round.
        repeats: Runs of each.
    """
    sizes = f"{str(folder)!r}, out, {rounds}, {local_steps}"
    ours = {
        name: (sys.executable, f"from {__name__} import race; race({sizes}, {actors})")
        for name, actors in (("ours, one process", 0), (f"ours, {NUM_CPUS} actors", NUM_CPUS))
    }
    theirs = (
        {_FLOWER: (flower.python, f"from {simulate.__module__} import simulate; simulate({sizes})")} if flower else {}
    )
    runs: dict[str, list[Run]] = {name: [] for name in (*ours, *theirs)}
    for _ in range(repeats):
        for name, (python, code) in (ours | theirs).items():
            runs[name].append(Run.of(python, code, folder / "record.json"))
    rows = []
    for name, made in runs.items():
        rows += [
            row(f"{name}, rounds per second", 1.0 / statistics.median(run.seconds for run in made), "1/s"),
            row(f"{name}, CPU time of a round", statistics.median(run.cpu for run in made), "s"),
            row(f"{name}, start-up", statistics.median(run.start_up for run in made), "s"),
            row(f"{name}, held-out loss after {rounds - 1} rounds", made[0].losses[-1], "nats"),
        ]
    if not flower:
        how = f"not measured: {VARIABLE} names no Python that has it, see docs/benchmarks.md"
        return [*rows, row(_FLOWER, None, "1/s", None, how)]
    peer = f"{_FLOWER} ({flower.version}), {NUM_CPUS} CPUs, the same clients, rows and steps"
    for name in ours:
        pairs = list(zip(runs[name], runs[_FLOWER], strict=True))
        speed, cost = ([getattr(b, what) / getattr(a, what) for a, b in pairs] for what in ("seconds", "cpu"))
        rows += [
            row(f"{name}, rounds per second, times Flower's", statistics.median(speed), "x", 1.0, peer),
            row(f"{name}, Flower's CPU time of a round over ours", statistics.median(cost), "x", 1.0, peer),
        ]
    first, second = ([run.losses for run in runs[name]] for name in ours)
    apart = np.abs(np.subtract(first, [run.losses for run in runs[_FLOWER]])).max(0)
    moved = float(np.abs(np.subtract(first, second)).max())
    return [
        *rows,
        row("held-out loss, actors against one process, largest difference", moved, "nats"),
        row("held-out loss after 2 rounds, difference from Flower's", float(apart[2]), "nats", None, peer),
        row("held-out loss, largest difference from Flower's", float(apart.max()), "nats", None, peer),
    ]


def race(folder: str, out: str, rounds: int, local_steps: int, num_actors: int) -> None:
    """Run rounds of ours in this process or in actors; called in a process of its own.

    Args:
        folder: As `prepare` left it.
        out: File for the `Record`.
        rounds: Federated rounds.
        local_steps: Gradient steps of a client in a round.
        num_actors: Actors that share the clients.
    """
    torch.set_num_threads(1)
    record = Record()
    record.stamp()
    with _ray(num_actors):
        work = Rounds.start(Path(folder), num_actors, local_steps=local_steps)
        for _ in range(rounds):
            record.losses.append(work())
            record.stamp()
    record.write(out)


@contextmanager
def _ray(num_cpus: int) -> Iterator[None]:
    """Ray for as many actors, where there are any."""
    if not num_cpus:
        yield
        return
    import ray

    ray.init(num_cpus=num_cpus, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield
    finally:
        ray.shutdown()


def _take_turns(works: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """CPU seconds of each piece of work in each turn, in all processes; the first two turns do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 2):
        for name, work in works.items():
            clock = work.clock if isinstance(work, Rounds) else time.process_time
            start = clock()
            work()
            if turn > 1:
                seconds[name].append(clock() - start)
    return seconds


def _pooled(folder: Path, batch_size: int, samples: int) -> Callable[[], None]:
    """A bare loop that trains one world model on the rows of all clients."""
    settings = FedMORLSettings()
    weights, sums = read_start(folder)
    folders = client_folders(folder / "clients")
    layout = ClientGroup(folders, settings, folder / "state", seed=0).layout
    parts = [load_rows(path) for path in folders.values()]
    stack = Stack([Rows(*(torch.cat(column) for column in zip(*parts, strict=True)))])
    model = WorldModel(layout, sums, settings.model_hiddens)
    model.load_weights(weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.model_lr)
    generator = torch.Generator().manual_seed(0)

    def train() -> None:
        for index in stack.minibatches([generator], samples // batch_size, batch_size):
            loss = torch.stack(list(model.loss(stack.rows.take(index)).values())).sum()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()

    return train
