"""Running a policy in an environment, and what comes out of it as metrics with their uncertainty."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import BatchedEnv, EnvStep, IntArray, Statistics
from rllib_wireless.envs.policy import Policy
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.envs.registry import Metric, env_spec, make_env, make_policy
from rllib_wireless.errors import UserError
from rllib_wireless.policies.bootstrap import interval95, pooled, resamples
from rllib_wireless.policies.portable import PortablePolicy, check_fits, load_policy, policy_folder

DEFAULT_STEPS = 10_000
"""Decision epochs per copy where neither steps nor episodes are given."""

# With no episode at its end after so many steps, --episodes would run for ever.
_PATIENCE = 1_000_000

Progress = Callable[[float], None]


class Rollout:
    """The loop in which a policy meets an environment; whoever runs policies runs this one.

    Args:
        env: The environment; its copies begin new episodes.
        policy: The policy; it forgets the past in all copies.
        seed: Seed of the environment, and of the policy's random numbers, which are a stream of their own.

    Attributes:
        step: What the environment shows now; its arrays are overwritten by the next step.
        actions: What the policy chose last, [B, N].
    """

    def __init__(self, env: BatchedEnv, policy: Policy, seed: int = 0) -> None:
        self.env, self.policy = env, policy
        self.random = StepRandom(seed, env.num_envs, len(env.agents))
        self.step: EnvStep = env.reset(seed)
        self.actions: IntArray = np.zeros(self.step.acting.shape, np.int64)
        policy.reset(np.arange(env.num_envs))

    def advance(self) -> EnvStep:
        """Let the policy act and the environment step; ended episodes begin anew in both."""
        self.actions = self.policy.act(self.step, self.random)
        self.random.advance()
        self.step = self.env.step(self.actions)
        if self.step.final is not None:
            self.policy.reset(self.step.final.copies)
        return self.step


def run(
    env: BatchedEnv,
    policy: Policy,
    *,
    steps: int | None = None,
    episodes: int | None = None,
    seed: int = 0,
    warmup_steps: int = 0,
    progress: Progress | None = None,
) -> Statistics:
    """Run a policy and collect raw sums.

    Args:
        env: The environment, B copies.
        policy: The policy.
        steps: Decision epochs per copy; gives one row per copy, over its finished episodes and the running one.
        episodes: Number of episodes; gives one row per episode. Every copy runs ceil(episodes / B) of them: counting
            those that end first would favour short ones.
        seed: Seed of environment and policy.
        warmup_steps: With `steps`: epochs before those, which are not counted.
        progress: Called now and then with the share that is done.

    Returns:
        Statistics {name: [E, ...]}, E = B copies, or the episodes ordered by copy.

    Raises:
        UserError: Unless exactly one of `steps` and `episodes` is given, both positive; or where episodes never end.
    """
    for name, value, least in (("steps", steps, 1), ("episodes", episodes, 1), ("warmup_steps", warmup_steps, 0)):
        if value is not None and value < least:
            raise UserError(f"{name} = {value}, but it should be at least {least}")
    if steps is not None and episodes is None:
        return _run_steps(Rollout(env, policy, seed), steps, warmup_steps, progress)
    if episodes is not None and steps is None:
        if warmup_steps:
            raise UserError("warmup_steps goes with steps, not with episodes, which are counted whole")
        return _run_episodes(Rollout(env, policy, seed), math.ceil(episodes / env.num_envs), progress)
    raise UserError("give either steps or episodes")


@dataclass(frozen=True)
class Evaluation:
    """How a policy did.

    Args:
        env: Name of the environment.
        env_config: Its configuration, as given.
        policy: Name or path of the policy.
        unit: What a row of the statistics is: a `copy` or an `episode`.
        seed: Seed of the run.
        statistics: {name: [E, ...]} raw sums.
    """

    env: str
    env_config: Mapping[str, Any]
    policy: str
    unit: str
    seed: int
    statistics: Statistics

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Every metric of the environment.

        Returns:
            By name: `mean`, the value over all rows pooled (a ratio of sums, not a mean of ratios); `std` over rows;
            `ci95`, the interval of a bootstrap over rows; `n`, the number of rows. What is undefined is NaN.
        """
        picks = resamples(self.num_rows, self.seed)
        return {m.name: self._metric(m, picks) for m in env_spec(self.env).metrics}

    def to_json(self) -> dict[str, Any]:
        """What `evaluate --json` prints; JSON has no NaN, undefined values are null."""
        return {"env": self.env, "policy": self.policy, "metrics": _without_nan(self.metrics())}

    @property
    def num_rows(self) -> int:
        return len(next(iter(self.statistics.values())))

    def _metric(self, metric: Metric, picks: IntArray) -> dict[str, Any]:
        rows = np.array([pooled(metric, self.statistics, row) for row in np.arange(self.num_rows)[:, None]])
        std = float(np.nanstd(rows, ddof=1)) if np.isfinite(rows).sum() > 1 else math.nan
        interval = interval95([pooled(metric, self.statistics, pick) for pick in picks])
        return {"mean": metric.reduce(self.statistics), "std": std, "ci95": list(interval), "n": self.num_rows}


def evaluate(
    policy: str | Path | Policy,
    env: str,
    env_config: Mapping[str, Any] | None = None,
    *,
    num_envs: int = 64,
    steps: int | None = None,
    episodes: int | None = None,
    seed: int = 0,
    warmup_steps: int = 0,
    params: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a policy by name, by path or as an object.

    Args:
        policy: A rule's name, the folder of a portable policy or of a training output, or a Policy that is bound to no
            environment. A rule's name wins over a folder of that name.
        env: Name of the environment.
        env_config: Its configuration.
        num_envs: Copies B that run side by side; no more than `episodes`, where they are given.
        steps: Decision epochs per copy; 10,000 if neither they nor episodes are given, unless the environment's metrics need
            whole episodes: then its `default_episodes`.
        episodes: Number of episodes, rounded up to a multiple of B.
        seed: Seed of environment and policy.
        warmup_steps: Epochs per copy before the counted `steps`.
        params: The rule's parameters; of a portable policy `mode` and `epsilon`.
        progress: Called now and then with the share that is done.

    Raises:
        UserError: At a policy that is neither, that does not fit, or a wrong configuration.
    """
    copies = num_envs if episodes is None else min(num_envs, max(episodes, 1))
    batched = make_env(env, copies, **dict(env_config or {}))
    acting = resolve_policy(policy, batched, params)
    if steps is None and episodes is None:
        episodes = batched.default_episodes
        steps = DEFAULT_STEPS if episodes is None else None
    statistics = run(
        batched, acting, steps=steps, episodes=episodes, seed=seed, warmup_steps=warmup_steps, progress=progress
    )
    name = type(policy).__name__ if isinstance(policy, Policy) else str(policy)
    return Evaluation(env, dict(env_config or {}), name, "copy" if episodes is None else "episode", seed, statistics)


def resolve_policy(policy: str | Path | Policy, env: BatchedEnv, params: Mapping[str, Any] | None = None) -> Policy:
    """The policy that a name, a path or an object stands for, checked to fit the environment.

    Raises:
        UserError: Where there is none, or it does not fit.
    """
    rules, params = env_spec(env.name).rules, dict(params or {})
    if isinstance(policy, str) and policy in rules:
        return make_policy(policy, env, **params)
    if not isinstance(policy, Policy):
        if policy_folder(policy) is None:
            raise UserError(
                f"{policy} is neither a rule of {env.name} ({', '.join(rules)}) nor a folder with a trained policy"
            )
        policy = load_policy(policy, mode=params.pop("mode", None), epsilon=params.pop("epsilon", None))
    if params:
        raise UserError(f"a learned policy has no parameter {min(params)!r}; it may have mode and epsilon")
    if isinstance(policy, PortablePolicy):
        check_fits(policy, env)
    return policy


class PairedDifference(NamedTuple):
    """By how much one policy is above another, with the two-sided 95 % interval of a bootstrap over pairs of rows."""

    mean: float
    lower95: float
    upper95: float


def paired_difference(a: Evaluation, b: Evaluation, metric: str) -> PairedDifference:
    """Metric of `a` minus metric of `b`, whose rows were drawn with the same seeds.

    Raises:
        UserError: Where the two cannot be paired (other environment, seed, unit or number of rows), or at an unknown
            metric.
    """
    for what in ("env", "env_config", "seed", "unit", "num_rows"):
        if getattr(a, what) != getattr(b, what):
            raise UserError(f"cannot pair evaluations: {what} is {getattr(a, what)} and {getattr(b, what)}")
    by_name = {m.name: m for m in env_spec(a.env).metrics}
    if metric not in by_name:
        raise UserError(f"{a.env} has no metric {metric!r}; metrics are {', '.join(by_name)}")
    m = by_name[metric]
    picks = resamples(a.num_rows, a.seed)
    lower, upper = interval95([pooled(m, a.statistics, pick) - pooled(m, b.statistics, pick) for pick in picks])
    return PairedDifference(m.reduce(a.statistics) - m.reduce(b.statistics), lower, upper)


def _run_steps(rollout: Rollout, steps: int, warmup_steps: int, progress: Progress | None) -> Statistics:
    env = rollout.env
    finished = {name: np.zeros_like(value) for name, value in env.statistics().items()}
    before = finished
    for t in _counted(range(warmup_steps + steps), progress):
        if t == warmup_steps:
            before = _sum(finished, env.statistics())
        final = rollout.advance().final
        if final is not None:
            for name, value in final.statistics.items():
                finished[name][final.copies] += value
    total = _sum(finished, env.statistics())
    return {name: total[name] - before[name] for name in total} if warmup_steps else total


def _run_episodes(rollout: Rollout, per_copy: int, progress: Progress | None) -> Statistics:
    num_envs = rollout.env.num_envs
    rows: dict[str, npt.NDArray[Any]] = {}
    count = np.zeros(num_envs, np.int64)
    for t in itertools.count(1):
        final = rollout.advance().final
        if final is not None:
            wanted = count[final.copies] < per_copy
            copies = final.copies[wanted]
            for name, value in final.statistics.items():
                if name not in rows:
                    rows[name] = np.zeros((num_envs, per_copy, *value.shape[1:]), value.dtype)
                rows[name][copies, count[copies]] = value[wanted]
            count[copies] += 1
            if progress is not None:
                progress(count.sum() / (num_envs * per_copy))
            if count.min() == per_copy:
                break
        if t == _PATIENCE and not count.any():
            raise UserError(f"no episode of {rollout.env.name} has ended in {t} steps: use steps")
    return {name: value.reshape(-1, *value.shape[2:]) for name, value in rows.items()}


def _counted(indices: range, progress: Progress | None) -> Iterator[int]:
    every = max(len(indices) // 100, 1)
    for t in indices:
        yield t
        if progress is not None and (t + 1) % every == 0:
            progress((t + 1) / len(indices))


def _sum(a: Statistics, b: Statistics) -> Statistics:
    return {name: a[name] + b[name] for name in a}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
