"""check_policy: whether a policy keeps the promises of Policy, and a learned one those of PortablePolicy."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import BatchedEnv, EnvStep, IntArray
from rllib_wireless.envs.policy import Policy
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.policies.evaluation import Rollout
from rllib_wireless.policies.portable import PortablePolicy, load_policy, save_policy, slice_policy
from rllib_wireless.testing.check import require
from rllib_wireless.testing.env import Make

Bind = Callable[[BatchedEnv], Policy]

# Actions of a slice may differ where the last bit of a matrix product moves a probability past the random number.
_SLICE_AGREEMENT = 0.99


def check_policy(bind: Bind, make: Make, *, num_envs: int = 5, num_steps: int = 100, seed: int = 0) -> None:
    """Check a policy in an environment.

        check_policy(lambda env: make_policy("ac_be", env), functools.partial(make_env, "channel_access"))

    Args:
        bind: Gives a new policy for an environment.
        make: Called as `make(num_envs=B, strict=...)`; gives the environment.
        num_envs: Copies B, at least 2.
        num_steps: Length of each run.
        seed: Seed of all runs.

    Raises:
        CheckFailed: Naming what is wrong and the remedy.
    """
    env = make(num_envs=num_envs, strict=False)
    policy = bind(env)
    actions = _run(env, policy, num_steps, seed)
    env = make(num_envs=num_envs, strict=False)
    again = _run(env, bind(env), num_steps, seed)
    require(np.array_equal(actions, again), "equal seeds give other actions", "Draw all random numbers from `random`")
    if isinstance(policy, PortablePolicy):
        _check_round_trip(policy, env, actions, seed)
        if not policy.centralized:
            _check_slices(policy, env, num_steps, seed)
    else:
        fewer = make(num_envs=num_envs - 1, strict=False)
        alone = _run(fewer, bind(fewer), num_steps, seed)
        require(
            np.array_equal(actions[:, :-1], alone),
            "actions in a copy depend on how many others run",
            "Key random numbers by (seed, copy)",
        )


class _Watched(Policy):
    """A policy whose every answer is checked and kept."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.answers: list[npt.NDArray[np.int64]] = []

    def reset(self, copies: IntArray) -> None:
        self._policy.reset(copies)

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        actions, shape = self._policy.act(step, random), step.acting.shape
        require(
            isinstance(actions, np.ndarray) and actions.shape == shape and actions.dtype.kind == "i",
            f"act() returns {np.asarray(actions).dtype}{list(np.asarray(actions).shape)}",
            f"Return integers {list(shape)}",
        )
        inside = (actions >= 0) & (actions < step.action_mask.shape[-1])
        legal = inside & np.take_along_axis(step.action_mask, np.where(inside, actions, 0)[..., None], -1)[..., 0]
        require(legal[step.acting].all(), "act() returns illegal actions", "Choose where step.action_mask is True")
        prob = self._policy.action_prob
        require(
            prob is None
            or (prob.shape == shape and prob.dtype == np.float32 and ((prob > 0) & (prob <= 1))[step.acting].all()),
            "action_prob is not a probability float32 [B, N] of the chosen actions",
            "Set it in act(), or leave it None where it is not known",
        )
        self.answers.append(actions.copy())
        return actions


def _run(env: BatchedEnv, policy: Policy, num_steps: int, seed: int) -> npt.NDArray[np.int64]:
    """Actions [T, B, N] of a run."""
    watched = _Watched(policy)
    rollout = Rollout(env, watched, seed)
    for _ in range(num_steps):
        rollout.advance()
    return np.stack(watched.answers)


def _check_round_trip(policy: PortablePolicy, env: BatchedEnv, actions: npt.NDArray[np.int64], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy"
        save_policy(policy, path, env=env.name, env_config=dataclasses.asdict(env.config))  # type: ignore[call-overload]
        loaded = load_policy(path)
        same = np.array_equal(_run(env, loaded, len(actions), seed), actions)
        require(same, "the policy acts otherwise after saving and loading", "Save all that act() depends on")
        if policy.centralized:
            return
        part = load_policy(path, agent=policy.agents[-1])
        require(
            part.agents == policy.agents[-1:],
            f"the part of {policy.agents[-1]} acts for {part.agents}",
            "Name the agent in slice()",
        )


def _check_slices(policy: PortablePolicy, env: BatchedEnv, num_steps: int, seed: int) -> None:
    """Each agent's part, shown that agent's columns and random numbers, does what the whole does."""
    parts = [slice_policy(policy, agent) for agent in policy.agents]
    for part in parts:
        part.reset(np.arange(env.num_envs))
    rollout = Rollout(env, policy, seed)
    agree, total = 0, 0
    for _ in range(num_steps):
        random = rollout.random
        chosen = [part.act(_columns(rollout.step, i), _Column(random, i))[:, 0] for i, part in enumerate(parts)]
        acting = rollout.step.acting.copy()
        rollout.advance()
        if rollout.step.final is not None:
            for part in parts:
                part.reset(rollout.step.final.copies)
        agree += int((np.stack(chosen, 1) == rollout.actions)[acting].sum())
        total += int(acting.sum())
    require(
        agree >= _SLICE_AGREEMENT * total,
        f"the agents' slices choose the action of the whole policy in {agree} of {total} decisions",
        "slice(i) must hold all that the actions of agent i depend on",
    )


class _Column(StepRandom):
    """The random numbers of one agent, for its slice."""

    def __init__(self, whole: StepRandom, agent_index: int) -> None:
        self.seed, self.counter = whole.seed, whole.counter
        self._whole, self._index = whole, agent_index

    def uniform(self, purpose: int = 0) -> npt.NDArray[np.float64]:
        return self._whole.uniform(purpose)[:, self._index : self._index + 1]


def _columns(step: EnvStep, i: int) -> EnvStep:
    """What agent i sees."""
    one = slice(i, i + 1)
    return dataclasses.replace(
        step,
        obs=step.obs[:, one],
        action_mask=step.action_mask[:, one],
        acting=step.acting[:, one],
        reward=step.reward[:, one],
        cost=step.cost[:, one],
        stream=None if step.stream is None else step.stream[:, one],
        stream_reward=None if step.stream_reward is None else step.stream_reward[:, one],
        stream_done=None if step.stream_done is None else step.stream_done[:, one],
        final=None,
    )
