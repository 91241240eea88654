"""What a gradient step of CTDE-CQL costs: against the same arithmetic in a bare torch loop, and against d3rlpy's DiscreteCQL.

Four access points that choose among three users each. d3rlpy knows single agents, so four agents are four runs of its own; its
cost per row and agent is that of one. The row of OG-MARL is a constant that was measured elsewhere, and is there for its order.
"""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import torch

from rllib_wireless.algorithms.ctde_cql.ctde_cql import CTDECQLConfig
from rllib_wireless.algorithms.gradient import layer_sizes
from rllib_wireless.algorithms.losses import chosen, conservative_gap, interval_discount, soft_value
from rllib_wireless.algorithms.stacked import agent_norms
from rllib_wireless.benchmarks import median_ratio, row
from rllib_wireless.benchmarks.peers.d3rlpy import VARIABLE, find_d3rlpy
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.envs import make_env
from rllib_wireless.policies import StackedMLP

ENV = "radio_resource"
NUM_AGENTS = 4
HIDDENS = (64, 64)
BATCH_SIZE = 256
OG_MARL = 157_000
"""Agent-transitions per second of OG-MARL's torch IQL+CQL with GRUs of 64 units, at best, on two cores."""

Work = Callable[[], Any]


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure gradient steps.

    Args:
        quick: Fewer steps, and no d3rlpy.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    torch.set_num_threads(1)
    steps = 20 if quick else 100
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        collect(ENV, {}, [Behaviour("random")], 10_000, data)
        works = {
            "CTDE SAC": learner(data, steps),
            "CTDE SAC, bare torch loop": bare_loop(data, steps),
            "independent DQN": learner(data, steps, paradigm="independent", backbone="dqn"),
        }
        seconds = take_turns(works, 3 if quick else 9)
        rows = [row(f"{name}, gradient step", 1e3 * min(s) / steps, "ms") for name, s in seconds.items()]
        ratio = median_ratio(seconds["CTDE SAC"], seconds["CTDE SAC, bare torch loop"])
        peer = "bare torch loop with the same networks, losses, data and optimizer"
        rows.append(row("CTDE SAC, gradient step, times the bare loop", ratio, "x", 1.2, peer))
        for name in ("CTDE SAC", "independent DQN"):
            rate = BATCH_SIZE * NUM_AGENTS * steps / statistics.median(seconds[name])
            rows.append(row(f"{name}, agent-samples per CPU second", rate, "1/s"))
            rows.append(
                row(f"{name}, times OG-MARL", rate / OG_MARL, "x", 1.0, "OG-MARL's IQL+CQL, measured elsewhere")
            )
        return rows + ([] if quick else _against_d3rlpy(data, steps))


def learner(data: Path, steps: int, **settings: Any) -> Work:
    """Gradient steps as a user of the algorithm gets them."""
    config = CTDECQLConfig().environment(ENV).offline_data(input_=data).training(**settings)
    config.training(fcnet_hiddens=HIDDENS, train_batch_size_per_learner=BATCH_SIZE)
    work: Work = config.training(dataset_num_iters_per_learner=steps).build_algo().training_step
    return work


def bare_loop(data: Path, steps: int) -> Work:
    """The arithmetic of CTDE SAC with the conservative term, gradient norms included, without RLlib and without settings."""
    env = make_env(ENV)
    critics, gamma, alpha, tau, target_entropy = 2, env.gamma, 1.0, 5e-3, 0.3
    sizes = layer_sizes(env, HIDDENS)
    actor, critic, target = (StackedMLP(n * NUM_AGENTS, sizes) for n in (1, critics, critics))
    log_temperature = torch.zeros(NUM_AGENTS, requires_grad=True)
    networks = [list(actor.parameters()), list(critic.parameters())]
    optimizer = torch.optim.Adam([*networks[0], *networks[1], log_temperature], lr=3e-4, fused=True)
    columns = ("obs", "actions", "action_mask", "rewards", "duration", "terminateds", "new_obs", "new_action_mask")
    batches = TensorIterator([data], columns=columns).iter_torch_batches(batch_size=BATCH_SIZE)
    slow: list[torch.Tensor] = list(target.parameters())
    fast: list[torch.Tensor] = list(critic.parameters())

    def q_values(network: StackedMLP, obs: torch.Tensor) -> torch.Tensor:
        q: torch.Tensor = network(obs.repeat(1, critics, 1)).view(len(obs), critics, NUM_AGENTS, -1)
        return q

    def step() -> None:
        b = {name.removeprefix("agents/"): column for name, column in next(batches).items()}
        mask, temperature = b["action_mask"], log_temperature.detach().exp()
        with torch.no_grad():
            new_q = q_values(target, b["new_obs"]).amin(1)
            new_value, _ = soft_value(new_q, actor(b["new_obs"]), temperature, b["new_action_mask"])
            discount = interval_discount(gamma, b["duration"], b["terminateds"])[:, :1]
            y = b["rewards"].mean(1, keepdim=True) / 5.0 + discount * new_value.sum(1, keepdim=True)
        q = q_values(critic, b["obs"])
        q_logged = chosen(q, b["actions"].unsqueeze(1).expand(q.shape[:-1]))
        td = 0.5 * (q_logged.sum(-1) - y).square().mean()
        gap = conservative_gap(q, q_logged, mask.unsqueeze(1)).mean(1).mean(0).sum()
        value, entropy = soft_value(q.detach().amin(1), actor(b["obs"]), temperature, mask)
        excess = (entropy.detach() - target_entropy * mask.sum(-1).log()).mean(0)
        loss = critics * (td + alpha * gap) - value.mean(0).sum() + (log_temperature * excess).sum()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        for parameters in networks:
            agent_norms([p.grad for p in parameters if p.grad is not None])
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(slow, fast, tau)

    def work() -> None:
        for _ in range(steps):
            step()

    return work


def take_turns(works: Mapping[str, Work], turns: int) -> dict[str, list[float]]:
    """CPU seconds of each piece of work, which take turns so that all meet the same machine; the first turn does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if turn:
                seconds[name].append(time.process_time() - start)
    return seconds


def _against_d3rlpy(data: Path, steps: int) -> list[dict[str, Any]]:
    """Four agents with equal networks and batches: a joint step of ours against four steps of d3rlpy's."""
    name = "d3rlpy's CPU time over ours"
    peer = find_d3rlpy()
    if peer is None:
        return [row(name, None, "x", 2.0, f"not measured: {VARIABLE} is not set")]
    out = data.parent / "d3rlpy.json"
    code = f"from rllib_wireless.benchmarks.peers.d3rlpy import compare; compare({str(data)!r}, {str(out)!r}, {steps})"
    subprocess.run([peer.python, "-c", code], check=True, capture_output=True, timeout=1200)
    measured = orjson.loads(out.read_bytes())
    theirs = [NUM_AGENTS * seconds for seconds in measured["d3rlpy"]]
    what = f"DiscreteCQL ({peer.version}), one agent after the other, equal networks and batches"
    return [
        row(f"independent DQN, {name}", median_ratio(theirs, measured["dqn"]), "x", 2.0, what),
        row(
            f"CTDE SAC, {name}",
            median_ratio(theirs, measured["sac"]),
            "x",
            None,
            f"{what}; two critics and a policy more",
        ),
    ]
