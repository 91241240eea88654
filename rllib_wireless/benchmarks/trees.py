"""What SCAM-FQI's forests cost: choosing actions against scikit-learn's predict, and an iteration in two actors against one."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from rllib_wireless.algorithms.scam_fqi.scam_fqi import SCAMFQI, SCAMFQIConfig
from rllib_wireless.benchmarks import best, median_ratio, row
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.data.sharing import agent_rows
from rllib_wireless.data.store import load_dataset
from rllib_wireless.envs import StepRandom, make_env
from rllib_wireless.envs.base import BatchedEnv, EnvStep
from rllib_wireless.policies.trees import TreesPolicy

ENV = "production_scheduling"
CONFIG: dict[str, Any] = {"products": "A*5", "defer": "forced"}
COPIES = 1000
TREES, LEAF = 30, 5
_PEER = "scikit-learn's predict, once for each decision and action"


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure forests of the 20 units of the 4x5 plant, 30 trees for each unit and action.

    Choosing actions is measured in CPU time on one thread, for all units that decide in 1,000 plants. The peer calls the
    regressors that scikit-learn fitted to the same rows, for each decision and legal action by itself, as code for one plant
    does; it neither draws nor keeps the action. An iteration is measured in wall time, between actors that take turns.

    Args:
        quick: Shorter runs, and no actors.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        collect(ENV, CONFIG, [Behaviour("uniform")], 5_000 if quick else 60_000, data)
        alone = _algorithm(data)
        alone.train()
        policy = alone.policy()
        alone.stop()
        assert isinstance(policy, TreesPolicy)
        env = make_env(ENV, COPIES, **CONFIG)
        step = _some_step(env, policy)
        decisions, random = int(step.acting.sum()), StepRandom(0, COPIES, len(env.agents))

        def ours() -> float:
            policy.act(step, random)
            return float(decisions)

        peer = _Peer(data, env)
        rate = best(ours, 3 if quick else 20)
        slow = best(lambda: peer.choose(step, 20 if quick else 200), 1 if quick else 3)
        rows = [
            row(f"choosing actions, {COPIES} plants", rate, "decisions/s"),
            row(_PEER, slow, "decisions/s"),
            row("choosing actions, times scikit-learn", rate / slow, "x", 50.0, _PEER),
        ]
        return rows if quick else rows + _actors(data)


class _Peer:
    """The same regressors as scikit-learn's objects.

    Args:
        data: The joint data set.
        env: The environment.
    """

    def __init__(self, data: Path, env: BatchedEnv) -> None:
        self._models: list[dict[int, ExtraTreesRegressor]] = []
        dataset = load_dataset(data)
        for agent in env.agents:
            rows = agent_rows(dataset, agent, env)
            self._models.append(
                {
                    a: ExtraTreesRegressor(n_estimators=TREES, min_samples_leaf=LEAF, random_state=0).fit(
                        rows["obs"][rows["actions"] == a], rows["rewards"][rows["actions"] == a]
                    )
                    for a in np.unique(rows["actions"]).tolist()
                }
            )

    def choose(self, step: EnvStep, count: int) -> float:
        """Choose for the first decisions of a step; returns how many."""
        decisions = np.argwhere(step.acting)[:count]
        for b, i in decisions:
            known = [a for a in np.flatnonzero(step.action_mask[b, i]).tolist() if a in self._models[i]]
            values = [float(self._models[i][a].predict(step.obs[b, i][None])[0]) for a in known]
            max(zip(values, known, strict=True), default=None)
        return float(len(decisions))


def _algorithm(data: Path, **settings: Any) -> SCAMFQI:
    config = SCAMFQIConfig().environment(ENV, env_config=CONFIG).offline_data(input_=data)
    algorithm: SCAMFQI = config.training(n_estimators=TREES, min_samples_leaf=LEAF, **settings).build_algo()
    return algorithm


def _some_step(env: BatchedEnv, policy: TreesPolicy) -> EnvStep:
    """What 1,000 plants look like some time after their beginning."""
    random, step = StepRandom(0, env.num_envs, len(env.agents)), env.reset(0)
    for _ in range(30):
        step = env.step(policy.act(step, random))
        random.advance()
    return step


def _actors(data: Path) -> list[dict[str, Any]]:
    """Iterations with one actor and with two; the first ones, which read the data, do not count."""
    import ray

    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        algorithms = {count: _algorithm(data, num_fitter_actors=count) for count in (1, 2)}
        seconds: dict[int, list[float]] = {count: [] for count in algorithms}
        for turn in range(4):
            for count, algorithm in algorithms.items():
                begin = time.perf_counter()
                algorithm.train()
                if turn:
                    seconds[count].append(time.perf_counter() - begin)
        for algorithm in algorithms.values():
            algorithm.stop()
    finally:
        ray.shutdown()
    return [
        *(
            row(f"iteration, {count} actor{'s' * (count - 1)}", statistics.median(s), "s")
            for count, s in seconds.items()
        ),
        row("iteration in two actors, times one", median_ratio(seconds[2], seconds[1]), "x", None, "one actor"),
    ]
