"""Random policies of every kind, and what each of them does.

All numbers in them and in what they observe are small integers or halves of such: sums are exact in any order, so that
actions have to be equal however they are computed, and many tie.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from rllib_wireless.envs import EnvStep, StepRandom
from rllib_wireless.envs.base import BoolArray, FloatArray, IntArray, ObsField
from rllib_wireless.policies import (
    FactoredNetworkPolicy,
    JointNetworkPolicy,
    NetworkPolicy,
    PortablePolicy,
    StackedMLP,
    TablePolicy,
    TreesPolicy,
)
from rllib_wireless.policies.trees import LEAF, UNKNOWN, Forests

Random = np.random.Generator


def network(random: Random, num_agents: int, *sizes: int) -> StackedMLP:
    def layer(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.integers(-2, 3, shape).astype(np.float32))

    pairs = list(itertools.pairwise(sizes))
    return StackedMLP.from_layers(
        [layer(num_agents, i, o) for i, o in pairs], [layer(num_agents, 1, o) for _, o in pairs]
    )


def forests(random: Random, num_agents: int, num_actions: int, obs_size: int) -> Forests:
    """Full of what may go wrong: bare leaves, actions without trees, trees that several actions share or repeat."""
    rows: list[list[float]] = []

    def grow(depth: int) -> int:
        m = len(rows)
        rows.append([LEAF, 0.0, UNKNOWN, float(random.integers(-4, 5))])
        if random.random() < depth / 4:
            column = int(random.integers(obs_size + num_actions))
            rows[m][:2] = column, 0.5 if column >= obs_size else float(random.integers(-3, 4)) / 2
            grow(depth - 1)
            rows[m][2] = len(rows)
            grow(depth - 1)
        return m

    shape, shared = (num_agents, num_actions, int(random.integers(1, 5))), random.random() < 0.5
    roots = np.array([grow(6) for _ in range(int(np.prod(shape)))]).reshape(shape)
    if shared:
        roots[:] = roots[:, :1]
    roots[:, :, shape[2] // 2 :] = roots[:, :, : shape[2] - shape[2] // 2]
    roots[random.random(shape[:2]) < 0.2] = UNKNOWN
    feature, threshold, right, value = np.array(rows, np.float64).T
    return Forests(
        roots, feature.astype(np.int32), threshold.astype(np.float32), right.astype(np.int64), value.astype(np.float32)
    )


def network_policy(random: Random, n: int, d: int, a: int, **choice: Any) -> PortablePolicy:
    return NetworkPolicy(network(random, n, d, 5, 3, a), names(n), **choice)


def joint_policy(random: Random, n: int, d: int, a: int, **choice: Any) -> PortablePolicy:
    return JointNetworkPolicy(network(random, 1, n * d, 4, a**n), names(n), a, **choice)


def factored_policy(random: Random, n: int, d: int, a: int, **choice: Any) -> PortablePolicy:
    return FactoredNetworkPolicy(network(random, 1, n * d, n * a), names(n), a, **choice)


def table_policy(random: Random, n: int, d: int, a: int, **choice: Any) -> PortablePolicy:
    grid = [
        np.sort(random.choice(np.arange(-3, 4), random.integers(1, 5), replace=False)).astype(float) for _ in range(d)
    ]
    rows = random.choice([0.0, 1.0, 2.0], (n, int(np.prod([len(levels) for levels in grid])), a))
    rows[..., 0] += rows.sum(-1) == 0
    return TablePolicy(rows / rows.sum(-1, keepdims=True), grid, names(n))


def trees_policy(random: Random, n: int, d: int, a: int, **choice: Any) -> PortablePolicy:
    return TreesPolicy(forests(random, n, a, d), d, names(n), **choice)


MAKERS: dict[str, Callable[..., PortablePolicy]] = {
    "network": network_policy,
    "joint_network": joint_policy,
    "factored_network": factored_policy,
    "table": table_policy,
    "trees": trees_policy,
}


def names(n: int) -> tuple[str, ...]:
    return tuple(f"agent_{i}" for i in range(n))


def random_policies(kind: str, **choice: Any) -> Iterator[PortablePolicy]:
    for seed, (n, d, a) in enumerate([(1, 1, 2), (3, 4, 3), (2, 6, 5), (4, 2, 1), (2, 3, 7)]):
        policy = MAKERS[kind](np.random.default_rng(seed), n, d, a, **choice)
        policy.obs_fields = (ObsField("numbers", "continuous", d, -np.inf, np.inf),)
        yield policy


def random_steps(policy: PortablePolicy, rows: int) -> EnvStep:
    """Observations on a grid of halves, and masks: some legal, all legal, all but one masked."""
    random, n, a = np.random.default_rng(rows), len(policy.agents), policy.num_actions
    mask = random.random((rows, n, a)) < 0.5
    mask[0::3] = True
    mask[1::3] = np.eye(a, dtype=np.bool_)[random.integers(a, size=(len(mask[1::3]), n))]
    nothing = ~mask.any(-1)
    mask[nothing, random.integers(a, size=int(nothing.sum()))] = True
    return step_of((random.integers(-8, 9, (rows, n, policy.obs_size)) / 2).astype(np.float32), mask)


def step_of(obs: FloatArray, mask: BoolArray) -> EnvStep:
    zero, false = np.zeros(mask.shape[:2], np.float32), np.zeros(len(mask), np.bool_)
    return EnvStep(obs, mask, np.ones(mask.shape[:2], np.bool_), zero, zero, false, false, zero[:, 0])


def law_of(policy: PortablePolicy, step: EnvStep) -> FloatArray:
    """The probabilities of a policy; of a joint one as its definition has them."""
    if policy.kind != "joint_network":
        return policy.probabilities(step)
    extra, tensors = policy.to_portable()
    values = step.obs.reshape(len(step.obs), -1).astype(np.float64)
    count = len(extra["sizes"]) - 1
    for k in range(count):
        values = values @ tensors[f"layer_{k}.weight"][0] + tensors[f"layer_{k}.bias"][0]
        values = values if k == count - 1 else values.clip(min=0)
    digits = np.array(list(itertools.product(range(policy.num_actions), repeat=len(policy.agents))))
    legal = step.action_mask[:, np.arange(len(policy.agents)), digits].all(-1)
    best = np.where(legal, values, -np.inf)
    weights = np.exp(best - best.max(-1, keepdims=True))
    if extra["mode"] == "greedy":
        weights = np.eye(len(digits))[best.argmax(-1)]
    uniform = legal / legal.sum(-1, keepdims=True)
    law: FloatArray = (1 - extra["epsilon"]) * weights / weights.sum(-1, keepdims=True) + extra["epsilon"] * uniform
    return law


def greedy_actions(policy: PortablePolicy, step: EnvStep) -> IntArray:
    """What the policy does where it takes the best; a table has no such mode, its best is what it does most often."""
    extra, tensors = policy.to_portable()
    if policy.kind == "table":
        best: IntArray = policy.probabilities(step).argmax(-1)
        return best
    greedy = type(policy).from_portable({**extra, "mode": "greedy", "epsilon": 0.0}, tensors, policy.agents)
    return greedy.act(step, StepRandom(0, len(step.obs), len(policy.agents)))
