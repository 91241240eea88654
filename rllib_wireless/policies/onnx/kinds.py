"""The kinds of portable policies as graphs of ONNX, each built from the arrays that `to_portable` gives."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from rllib_wireless.envs.base import EnvStep, FloatArray
from rllib_wireless.policies.choice import UNKNOWN
from rllib_wireless.policies.joint import joint_mask
from rllib_wireless.policies.network import NetworkPolicy
from rllib_wireless.policies.onnx.forests import tree_ensemble
from rllib_wireless.policies.onnx.graph import Graph
from rllib_wireless.policies.portable import PortablePolicy, Tensors
from rllib_wireless.policies.trees import Forests

_OBS, _MASK = "obs", "action_mask"
_LOWEST = np.finfo(np.float32).min


class Built(NamedTuple):
    """Names of what a graph puts out.

    Attributes:
        probabilities: What the policy draws from.
        action: The greedy action.
    """

    probabilities: str
    action: str


class Kind(NamedTuple):
    """How a kind of policy is exported.

    Attributes:
        build: Adds its nodes to a graph with the inputs `obs` and `action_mask`, from the policy's values and arrays.
        law: The probabilities that the policy itself draws from, [B, N, A], or [B, A ** N] of joint actions.
        joint: Whether those are of joint actions.
    """

    build: Callable[[Graph, PortablePolicy, dict[str, Any], Tensors], Built]
    law: Callable[[PortablePolicy, EnvStep], FloatArray] = lambda policy, step: policy.probabilities(step)
    joint: bool = False


def _network(g: Graph, policy: PortablePolicy, extra: dict[str, Any], tensors: Tensors) -> Built:
    return _choice(g, _layers(g, _OBS, tensors), _MASK, policy.num_actions, extra)


def _factored_network(g: Graph, policy: PortablePolicy, extra: dict[str, Any], tensors: Tensors) -> Built:
    shape = np.array([-1, len(policy.agents), policy.num_actions])
    logits = g("Reshape", _layers(g, g("Flatten", _OBS), tensors), shape)
    return _choice(g, logits, _MASK, policy.num_actions, extra)


def _joint_network(g: Graph, policy: PortablePolicy, extra: dict[str, Any], tensors: Tensors) -> Built:
    num_agents, num_actions = len(policy.agents), policy.num_actions
    mask = g("Gather", _MASK, np.array(0), axis=1)
    for i in range(1, num_agents):
        own = g("Unsqueeze", g("Gather", _MASK, np.array(i), axis=1), np.array([1]))
        mask = g("Flatten", g("And", g("Unsqueeze", mask, np.array([2])), own))
    logits = _layers(g, g("Flatten", _OBS), tensors)
    probabilities, number = _choice(g, logits, mask, num_actions**num_agents, extra)
    powers = num_actions ** np.arange(num_agents - 1, -1, -1)
    digits = g("Div", g("Unsqueeze", number, np.array([1])), powers)
    return Built(probabilities, g("Mod", digits, np.array(num_actions)))


def _joint_law(policy: PortablePolicy, step: EnvStep) -> FloatArray:
    team = NetworkPolicy.from_portable(*policy.to_portable(), ["team"])
    joined = replace(
        step, obs=step.obs.reshape(len(step.obs), 1, -1), action_mask=joint_mask(step.action_mask)[:, None]
    )
    return team.probabilities(joined)[:, 0]


def _table(g: Graph, policy: PortablePolicy, extra: dict[str, Any], tensors: Tensors) -> Built:
    grid = [tensors[f"grid_{k}"] for k in range(policy.obs_size)]
    sizes = np.array([len(levels) for levels in grid])
    strides = np.append(np.cumprod(sizes[:0:-1])[::-1], 1)
    # An observation's cell is as many strides on as there are borders below it.
    columns = np.repeat(np.arange(len(grid)), sizes - 1)
    borders = np.concatenate([(levels[1:] + levels[:-1]) / 2 for levels in grid])
    passed = g("Greater", g("Gather", _OBS, columns, axis=1), borders)
    number = g("ReduceSum", g("Where", passed, strides[columns], np.array(0)), np.array([1]), keepdims=0)
    legal = g("Cast", _MASK, to=_FLOAT)
    said = g("Mul", g("Gather", tensors["table"][0], number, axis=0), legal)
    # Where the mask leaves nothing of a row, all that is legal is alike.
    weights = g("Where", g("Greater", _total(g, said), np.float32(0)), said, legal)
    return Built(g("Div", weights, _total(g, weights)), g("ArgMax", weights, axis=-1, keepdims=0))


def _trees(g: Graph, policy: PortablePolicy, extra: dict[str, Any], tensors: Tensors) -> Built:
    forests = Forests(**tensors)
    # Sums of single numbers are exact in double ones, so that the order of the trees, and with it the runtime, plays no part.
    total = g.trees(g("Cast", _OBS, to=_DOUBLE), **tree_ensemble(forests, policy.obs_size))
    values = g("Cast", g("Div", total, np.array(float(forests.roots.shape[-1]))), to=_FLOAT)
    return _choice(g, values, _MASK, policy.num_actions, extra)


KINDS: dict[str, Kind] = {
    "network": Kind(_network),
    "factored_network": Kind(_factored_network),
    "joint_network": Kind(_joint_network, _joint_law, joint=True),
    "table": Kind(_table),
    "trees": Kind(_trees),
}
"""How each kind of portable policy is exported."""

_FLOAT, _DOUBLE = 1, 11  # TensorProto.FLOAT and .DOUBLE


def _layers(g: Graph, inputs: str, tensors: Tensors) -> str:
    """The multilayer perceptron of a stack of one."""
    count = len(tensors) // 2
    for k in range(count):
        inputs = g("Gemm", inputs, tensors[f"layer_{k}.weight"][0], tensors[f"layer_{k}.bias"][0])
        if k < count - 1:
            inputs = g("Relu", inputs)
    return inputs


def _choice(g: Graph, values: str, mask: str, num_actions: int, extra: dict[str, Any]) -> Built:
    """What `Choice` does with values [..., A]."""
    # Action 0 is what is left where none is legal.
    floor = np.full(num_actions, -np.inf, np.float32)
    floor[0] = _LOWEST
    legal = g("Max", g("Where", mask, g("Max", values, np.float32(UNKNOWN)), np.float32(-np.inf)), floor)
    action = g("ArgMax", legal, axis=-1, keepdims=0)
    if extra["mode"] == "greedy":
        law = g("OneHot", action, np.array(num_actions), np.array([0, 1], np.float32))
    else:
        law = g("Softmax", legal, axis=-1)
    if epsilon := extra["epsilon"]:
        ones = g("Cast", mask, to=_FLOAT)
        uniform = g("Div", ones, g("Max", _total(g, ones), np.float32(1)))
        law = g("Add", g("Mul", law, np.float32(1 - epsilon)), g("Mul", uniform, np.float32(epsilon)))
    return Built(law, action)


def _total(g: Graph, weights: str) -> str:
    return g("ReduceSum", weights, np.array([-1]), keepdims=1)
