"""What the cells do: behaviour policies, offline learning with a choice of checkpoints, and rules."""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_wireless.data import Behaviour
from rllib_wireless.envs import make_env
from rllib_wireless.envs.base import Statistics
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.papers.ctde_cql.references import LocalThreshold
from rllib_wireless.papers.ctde_cql.setup import (
    ACTING,
    ENV,
    EXPLORING,
    LEARNERS,
    ONLINE,
    RULES,
    WORLDS,
    Scale,
)
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.papers.learning import Run, Test, collect_log, measure_policy, metrics_of, trained, work_folder
from rllib_wireless.policies import load_policy
from rllib_wireless.policies.deployment import DeployedAgent
from rllib_wireless.policies.evaluation import evaluate
from rllib_wireless.policies.evaluation import run as run_policy

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm

METRICS = ("score", "score_per_episode", "sum_rate", "tail_rate", "silent_share")

_QUANTILES = 101
_THRESHOLD = {"default": 5.0, "dense": 6.0}
_TIMED = 2_000
"""Decisions over which CPU time is measured."""


@dataclass(frozen=True)
class Arm:
    """A way to learn offline. Equal arms are the same runs, whatever studies they appear in.

    Args:
        learner: Of `LEARNERS`.
        data: What acts in the log: a behaviour policy of `ONLINE`, a rule, or one that explores.
        rows: Joint rows in the log.
        world: Of `WORLDS`.
        alpha: Weight of the conservative term.
        wide: Whether networks have the scale's wide layers.
        long: Whether it is trained with the scale's `long` settings.
    """

    learner: str
    data: str
    rows: int
    world: str = "default"
    alpha: float = 1.0
    wide: bool = False
    long: bool = False

    @property
    def name(self) -> str:
        """Unique name, without the seed."""
        parts = [self.learner, self.data, str(self.rows)]
        parts += [self.world] if self.world != "default" else []
        parts += [f"alpha_{self.alpha:g}"] if self.alpha != 1.0 else []
        parts += ["wide"] if self.wide else []
        return "-".join(parts + (["long"] if self.long else []))


def informed(s: Scale, learner: str, data: str, world: str) -> Arm:
    """A learner of the study of equal information: where the log tries all actions there is less to be conservative about."""
    return Arm(learner, data, s.long_rows, world, alpha=0.1 if data == "random" else 1.0, long=True)


def trained_in(world: str) -> str:
    """The world in which the behaviour policies of a world are trained; where only the reward differs, the default one."""
    return "default" if world.startswith("lambda") else world


class BestCheckpoint:
    """Keeps the policy with the best score on validation drops.

    Args:
        s: The scale.
        world: Fields of the environment.
        seed: Seed of the validation drops.
        folder: Where to keep it.

    Attributes:
        scores: The score after each iteration.
    """

    def __init__(self, s: Scale, world: Mapping[str, Any], seed: int, folder: Path) -> None:
        self._drops, self._seed, self._folder = s.validation_drops, seed, folder
        self._world = {**world, "split": "validation"}
        self.scores: list[float] = []

    def __call__(self, algorithm: "OfflineMultiAgentAlgorithm") -> None:
        newest = self._folder.with_name("newest")
        algorithm.export_policy(newest)
        measured = evaluate(newest, ENV, self._world, num_envs=self._drops, seed=self._seed)
        self.scores.append(metrics_of(ENV, measured.statistics)["score"])
        if self.scores[-1] == max(self.scores):
            shutil.rmtree(self._folder, ignore_errors=True)
            newest.rename(self._folder)


def learn_offline(s: Scale, arm: Arm, seed: int, out: Path, progress: Progress) -> Json:
    """Collect a log, learn from it, keep the checkpoint that is best on validation drops, and test it.

    Args:
        s: The scale.
        arm: The way to learn.
        seed: Number of the training seed.
        out: Output folder; behaviour policies are in `behaviours/`, and made if they are not there yet.
        progress: Not told anything.

    Returns:
        `metrics` by name; `rates`, quantiles of the rates of all users; `validation`, the score of each checkpoint.
    """
    learner = LEARNERS[arm.learner]
    settings = {**learner.settings, "dataset_num_iters_per_learner": s.steps}
    if learner.algorithm == "ctde_cql":
        settings |= {**s.settings, "cql_alpha": arm.alpha}
    if arm.wide:
        settings["fcnet_hiddens"] = s.wide
    if arm.long:
        settings |= s.long[learner.settings["paradigm"]]
    run = Run(
        name=f"{arm.name}_{seed}",
        env=ENV,
        env_config=dict(WORLDS[arm.world]),
        steps=arm.rows,
        data_seed=s.data_seed + seed,
        train_seed=s.train_seed + seed,
        test_seed=s.test_seed + seed,
        test=Test(s.test_drops, None),
        behaviours=(_behaviour(s, arm.data, trained_in(arm.world), seed, out),),
        algorithm=learner.algorithm,
        settings=settings,
        iterations=s.iterations,
    )
    return _learn(s, run, seed, out)


def learn_online(s: Scale, kind: str, world: str, seed: int, out: Path, progress: Progress) -> Json:
    """Make a behaviour policy, or measure the one that is there: the best checkpoint of an online learner.

    Equal seeds give equal policies. So where two cells need one that is not there yet both make it, and either may stay.
    """
    kept = _behaviour_folder(out, kind, world, seed)
    settings = {**s.online_settings, **ONLINE[kind].settings}
    settings |= {"dataset_num_iters_per_learner": s.steps, "rollout_length": s.rollout_length}
    run = Run(
        name=f"online_{kind}_{world}_{seed}.{os.getpid()}",
        env=ENV,
        env_config=dict(WORLDS[world]),
        steps=0,
        data_seed=0,
        train_seed=s.online_seed + seed,
        test_seed=s.test_seed + seed,
        test=Test(s.test_drops, None),
        behaviours=(),
        algorithm="ctde_cql",
        settings=settings,
        iterations=s.online_iterations,
    )
    return _learn(s, run, seed, out, kept)


def measure_rules(s: Scale, world: str, seed: int, out: Path, progress: Progress) -> Json:
    """Every rule on the drops of a training seed's test: by name what `learn_offline` returns of a policy."""
    found: Json = {}
    for rule in RULES:
        if rule == "local_threshold":
            env = make_env(ENV, s.test_drops, split="test", **WORLDS[world])
            policy = LocalThreshold(env, _THRESHOLD[world])  # type: ignore[arg-type]
            statistics = run_policy(env, policy, episodes=s.test_drops, seed=s.test_seed + seed)
        else:
            params = {"delayed": True} if rule == "delayed_genie" else None
            name, config = rule.removeprefix("delayed_"), {**WORLDS[world], "split": "test"}
            statistics = evaluate(
                name, ENV, config, num_envs=s.test_drops, seed=s.test_seed + seed, params=params
            ).statistics
        found[rule] = _measured(statistics)
    return found


def _learn(s: Scale, run: Run, seed: int, out: Path, keep: Path | None = None) -> Json:
    """Train, choose, test; the chosen policy is moved to `keep`."""
    with work_folder(out, run.name) as folder:
        if run.steps:
            collect_log(run, folder / "data", seed=run.data_seed)
        best = BestCheckpoint(s, run.env_config, s.validation_seed + seed, folder / "best")
        with trained(run, folder, watch=best):
            pass
        on_test = dataclasses.replace(run, env_config={**run.env_config, "split": "test"})
        result = _measured(measure_policy(on_test, folder / "best").statistics)
        result["metrics"] |= _costs(folder / "best", run.env_config)
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
            if not keep.exists():
                (folder / "best").rename(keep)
    late = best.scores[len(best.scores) // 2 :]
    result["metrics"]["validation_spread"] = float(np.ptp(late))
    return {**result, "validation": best.scores}


def _behaviour(s: Scale, kind: str, world: str, seed: int, out: Path) -> Behaviour:
    """A rule, which may explore, or the behaviour policy of a training seed."""
    if kind not in ONLINE:
        return Behaviour(kind.removesuffix(EXPLORING), params=ACTING.get(kind, {}))
    folder = _behaviour_folder(out, kind, world, seed)
    if not folder.exists():
        learn_online(s, kind, world, seed, out, lambda name, share: None)
    return Behaviour(folder, params=ACTING[kind])


def _behaviour_folder(out: Path, kind: str, world: str, seed: int) -> Path:
    return out / "behaviours" / f"{kind}_{world}_{seed}"


def _measured(statistics: Statistics) -> Json:
    """The metrics, and quantiles of the users' mean rates, all drops pooled."""
    rates = statistics["rate"] / statistics["user_slots"]
    values = metrics_of(ENV, statistics)
    return {
        "metrics": {name: values[name] for name in METRICS},
        "rates": np.quantile(rates, np.linspace(0.0, 1.0, _QUANTILES)).tolist(),
    }


def _costs(folder: Path, world: Mapping[str, Any]) -> dict[str, float]:
    """What acting costs: parameters of all networks that act, messages between access points in a slot, and CPU time.

    A central policy needs an observation from each access point and tells each its action. CPU time is that of one decision of
    one access point by itself, or of a joint decision, on one thread.
    """
    policy = load_policy(folder)
    env = make_env(ENV, 1, **dict(world))
    step, random = env.reset(0), StepRandom(0, 1, len(env.agents))
    act: Callable[[], object]
    if policy.centralized:
        act = partial(policy.act, step, random)
    else:
        device = DeployedAgent(load_policy(folder, agent=env.agents[0]))
        act = partial(device.act, step.obs[0, 0], step.action_mask[0, 0])
    act()
    begin = time.process_time()
    for _ in range(_TIMED):
        act()
    seconds = (time.process_time() - begin) / _TIMED
    _, tensors = policy.to_portable()
    return {
        "parameters": float(sum(array.size for array in tensors.values())),
        "messages_per_slot": 2.0 * len(env.agents) if policy.centralized else 0.0,
        "decision_us": 1e6 * seconds,
    }
