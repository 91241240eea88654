"""What RLlib's Learner adds to a gradient step, and how long a first update takes, against a bare torch loop and RLlib's BC."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rllib_wireless.algorithms.baselines.bc import BCConfig
from rllib_wireless.algorithms.losses import imitation
from rllib_wireless.benchmarks import row
from rllib_wireless.data.collect import Behaviour, collect
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.envs import make_env
from rllib_wireless.policies import StackedMLP

NUM_AGENTS = 10
_ENV: dict[str, Any] = {"num_stations": NUM_AGENTS}
_COLUMNS = ("obs", "actions", "action_mask")


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure behaviour cloning of 10 stations.

    Args:
        quick: Fewer steps, and no RLlib BC, which takes most of the time.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        collect("channel_access", _ENV, [Behaviour("csma_ca")], 20_000, data)
        for hidden, batch_size, target, steps in ((256, 256, 1.2, 40), (64, 32, 1.4, 400)):
            rows += _step_cost(data, (hidden, hidden), batch_size, target, steps // 4 if quick else steps)
        if not quick:
            rows += _first_update(data, Path(folder))
    return rows


def _step_cost(data: Path, hidden: tuple[int, ...], batch_size: int, target: float, steps: int) -> list[dict[str, Any]]:
    """CPU time of a step in the learner and in a bare loop, which take turns so that both meet the same machine."""
    learner, bare = _learner(data, hidden, batch_size, steps), _bare_loop(data, hidden, batch_size, steps)
    times: dict[str, list[float]] = {"learner": [], "bare": []}
    for _ in range(9):
        for name, update in (("learner", learner), ("bare", bare)):
            start = time.process_time()
            update()
            times[name].append((time.process_time() - start) / steps)
    # The first turns load data and warm up.
    ratio = statistics.median(a / b for a, b in zip(times["learner"][2:], times["bare"][2:], strict=True))
    what = f"gradient step at {len(hidden)}x{hidden[0]} B={batch_size}"
    return [
        row(f"{what}, learner", 1e3 * min(times["learner"]), "ms"),
        row(f"{what}, bare torch loop", 1e3 * min(times["bare"]), "ms"),
        row(
            f"{what}, times the bare loop",
            ratio,
            "x",
            target,
            "bare torch loop with the same network, data and optimizer",
        ),
    ]


def _learner(data: Path, hidden: tuple[int, ...], batch_size: int, steps: int) -> Callable[[], Any]:
    config = BCConfig().environment("channel_access", env_config=_ENV).offline_data(input_=data)
    config.training(fcnet_hiddens=hidden, train_batch_size_per_learner=batch_size, dataset_num_iters_per_learner=steps)
    algo = config.build_algo()
    return algo.training_step  # type: ignore[no-any-return]


def _bare_loop(data: Path, hidden: tuple[int, ...], batch_size: int, steps: int) -> Callable[[], Any]:
    env = make_env("channel_access", **_ENV)
    assert env.observation_space.shape is not None
    network = StackedMLP(NUM_AGENTS, (env.observation_space.shape[0], *hidden, int(env.action_space.n)))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    batches = TensorIterator([data], columns=_COLUMNS).iter_torch_batches(batch_size=batch_size)

    def update() -> None:
        for _ in range(steps):
            batch = next(batches)
            loss = imitation(
                network(batch["agents/obs"]), batch["agents/actions"], batch["agents/action_mask"]
            ).total.sum()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()

    return update


def _first_update(data: Path, folder: Path) -> list[dict[str, Any]]:
    """Wall time from the start of Python to the end of the first update; RLlib's BC reads a file in its own format."""
    single = folder / "rllib"
    single.mkdir()
    _write_rllib_json(single / "rows.json")
    ours = _seconds(f"first_update({str(data)!r})")
    theirs = _seconds(f"rllib_first_update({str(single)!r})")
    peer = "RLlib's BC, one agent, on rows in its own format"
    return [
        row("first update, ours", ours, "s"),
        row("first update, RLlib's BC", theirs, "s"),
        row("first update, RLlib's time over ours", theirs / ours, "x", 1.0, peer),
    ]


def _seconds(call: str) -> float:
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", f"from rllib_wireless.benchmarks.learner import *; {call}"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return time.monotonic() - start


def first_update(data: str) -> None:
    """Build behaviour cloning and train one iteration of 100 steps."""
    config = BCConfig().environment("channel_access", env_config=_ENV).offline_data(input_=data)
    algo = config.training(dataset_num_iters_per_learner=100).build_algo()
    algo.train()
    algo.stop()


def rllib_first_update(data: str) -> None:
    """The same with RLlib's BC, which needs logical CPUs for its data workers."""
    import ray
    from gymnasium.spaces import Box, Discrete
    from ray.rllib.algorithms.bc import BCConfig as RLlibBCConfig

    ray.init(num_cpus=8, include_dashboard=False)
    config = (
        RLlibBCConfig()
        .environment(observation_space=Box(0.0, 1.0, (8,), np.float32), action_space=Discrete(2))
        .offline_data(input_=[data], input_read_method="read_json", dataset_num_iters_per_learner=100)
        .training(train_batch_size_per_learner=256)
    )
    algo = config.build_algo()
    algo.train()


def _write_rllib_json(path: Path) -> None:
    """2,000 rows of one agent, column by column as RLlib's offline API reads them."""
    random = np.random.default_rng(0)
    with path.open("w") as file:
        for t in range(2000):
            row = {
                "eps_id": t // 100,
                "obs": random.random(8).tolist(),
                "actions": int(random.integers(2)),
                "rewards": 0.0,
                "new_obs": random.random(8).tolist(),
                "terminateds": t % 100 == 99,
                "truncateds": False,
            }
            file.write(json.dumps(row) + "\n")
