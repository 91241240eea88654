"""Whether an exported file is the policy it was made of, and how fast it is."""

import itertools
import time

import numpy as np
import numpy.typing as npt
import onnxruntime

from rllib_wireless.envs.base import BoolArray, EnvStep, FloatArray, ObsField
from rllib_wireless.policies.joint import joint_action
from rllib_wireless.policies.onnx.kinds import Kind
from rllib_wireless.policies.portable import PortablePolicy

_BATCH = 256
_SECONDS, _LEAST_RUNS = 0.05, 20

Inputs = dict[str, npt.NDArray[np.generic]]


def session(file: bytes) -> onnxruntime.InferenceSession:
    """A session with one thread, as a device has that decides step by step."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def random_inputs(policy: PortablePolicy, rows: int, seed: int = 0) -> tuple[FloatArray, BoolArray]:
    """Observations [B, N, D] in the ranges of their fields, and masks [B, N, A] of at least one legal action."""
    random, shape = np.random.default_rng(seed), (rows, len(policy.agents))
    obs = np.concatenate([_values(f, shape, random) for f in policy.obs_fields or ()], axis=-1)
    # Some rows with few legal actions, some with most.
    mask = random.random((*shape, policy.num_actions)) < random.random((rows, 1, 1))
    mask |= np.eye(policy.num_actions, dtype=np.bool_)[random.integers(policy.num_actions, size=shape)]
    return obs.astype(np.float32), mask


def largest_difference(
    run: onnxruntime.InferenceSession, kind: Kind, policy: PortablePolicy, obs: FloatArray, mask: BoolArray
) -> float:
    """How far the file is from the policy, as a probability.

    Actions that are nearly as good as the best one may change places, since sums of single numbers depend on their order;
    how much less likely the file's choice is than the best counts as a difference, too.
    """
    probabilities, action = run.run(["probabilities", "action"], as_inputs(policy, obs, mask))
    step = _step(obs, mask)
    law, plain = kind.law(policy, step), kind.law(_plain(policy), step)
    if kind.joint:
        action = joint_action(action, policy.num_actions)
    law, plain, best = law.reshape(probabilities.shape), plain.reshape(probabilities.shape), plain.argmax(-1)
    best = best.reshape(action.shape)
    gap = np.take_along_axis(plain, best[..., None], -1) - np.take_along_axis(plain, action[..., None], -1)
    off = np.abs(probabilities - law).max(-1)
    return float(max(gap.max(), off[action == best].max(initial=0.0)))


def microseconds(
    run: onnxruntime.InferenceSession, policy: PortablePolicy, obs: FloatArray, mask: BoolArray
) -> tuple[float, float]:
    """Median time per decision on one thread: one decision at a time, and of a batch of 256."""
    return _median_us(run, policy, obs, mask, 1), _median_us(run, policy, obs, mask, _BATCH) / _BATCH


def as_inputs(policy: PortablePolicy, obs: FloatArray, mask: BoolArray) -> Inputs:
    """What a session takes: an agent's own file knows no axis of agents."""
    return {"obs": obs, "action_mask": mask} if policy.centralized else {"obs": obs[:, 0], "action_mask": mask[:, 0]}


def _median_us(
    run: onnxruntime.InferenceSession, policy: PortablePolicy, obs: FloatArray, mask: BoolArray, batch: int
) -> float:
    # Other observations each time: of large trees, those of the last one would still be in the cache.
    starts = itertools.cycle(range(0, len(obs) - batch + 1, batch))
    times: list[float] = []
    while len(times) < _LEAST_RUNS or sum(times) < _SECONDS:
        rows = slice(first := next(starts), first + batch)
        inputs = as_inputs(policy, obs[rows], mask[rows])
        start = time.perf_counter()
        run.run(["probabilities", "action"], inputs)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e6


def _values(field: ObsField, shape: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.float64]:
    if field.kind == "categorical":
        return np.eye(field.size)[random.integers(field.size, size=shape)]
    shape, low, high = (*shape, field.size), field.low, field.high
    if np.isfinite(low) and np.isfinite(high):
        return random.uniform(low, high, shape)
    return np.clip(random.normal(np.clip(0.0, low, high), 3.0, shape), low, high)


def _plain(policy: PortablePolicy) -> PortablePolicy:
    """The policy that samples without exploring, whose most probable action is the greedy one."""
    extra, tensors = policy.to_portable()
    return type(policy).from_portable({**extra, "mode": "sample", "epsilon": 0.0}, tensors, policy.agents)


def _step(obs: FloatArray, mask: BoolArray) -> EnvStep:
    zero, false = np.zeros(mask.shape[:2], np.float32), np.zeros(len(mask), np.bool_)
    return EnvStep(
        obs=obs,
        action_mask=mask,
        acting=np.ones(mask.shape[:2], np.bool_),
        reward=zero,
        cost=zero,
        terminated=false,
        truncated=false,
        duration=zero[:, 0],
    )
