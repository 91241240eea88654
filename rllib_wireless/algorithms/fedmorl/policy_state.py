"""What a client keeps of its policy learning, and the policy that it stands for."""

import torch
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.layout import Layout, inverse
from rllib_wireless.policies import NetworkPolicy, StackedMLP

State = dict[str, Tensor]
"""What a client keeps: its networks by name, the normalisation of their inputs, and what is added to the log-odds of acting."""


def policy_of(state: State, agent: str, layout: Layout) -> NetworkPolicy:
    """The policy in a client's state, acting on observations as the environment gives them."""
    names = sorted(name for name in state if name.startswith("policy.weights."))
    widths = [state[name].shape[1] for name in names]
    network = StackedMLP(1, (state[names[0]].shape[0], *widths))
    set_parameters(network, 0, state, "policy")
    network = shifted(network, float(state["shift"]))
    with torch.no_grad():  # w (x - mean) / std + b, as a layer that reads x
        columns = list(layout.continuous)
        scale = inverse(state["feature_std"])
        weight = network.weights[0][0]
        network.biases[0][0, 0] -= (weight[columns] * (state["feature_mean"] * scale)[:, None]).sum(0)
        weight[columns] *= scale[:, None]
    return NetworkPolicy(network, [agent])


def with_policy(state: State, policy: NetworkPolicy, layout: Layout) -> State:
    """A client's state whose policy, and target network, are this one; the inverse of `policy_of`."""
    columns, mean, std = list(layout.continuous), state["feature_mean"], state["feature_std"]
    own = {name: parameter.detach()[0].clone() for name, parameter in policy.network.named_parameters()}
    weight = own["weights.0"]
    own["biases.0"][0] += (weight[columns] * mean[:, None]).sum(0)
    weight[columns] *= (std * (inverse(std) > 0.0))[:, None]
    networks = {f"{kind}.{name}": value.clone() for kind in ("policy", "target") for name, value in own.items()}
    return state | networks | {"shift": torch.zeros(())}


def shifted(network: StackedMLP, shift: float) -> StackedMLP:
    """The network, a stack of one, with this added to the outputs of all actions but 0; changed in place."""
    with torch.no_grad():
        network.biases[-1][..., 1:] += shift
    return network


def give_all(stack: StackedMLP, network: StackedMLP) -> None:
    """Give every network of the stack the parameters of this one, a stack of one."""
    with torch.no_grad():
        for mine, one in zip(stack.parameters(), network.parameters(), strict=True):
            mine.copy_(one.expand_as(mine))


def named_parameters(stack: StackedMLP, client: int, prefix: str) -> State:
    """Copies of one client's parameters, named for its state."""
    return {f"{prefix}.{name}": p.detach()[client].clone() for name, p in stack.named_parameters()}


def set_parameters(stack: StackedMLP, client: int, state: State, prefix: str) -> None:
    """Give one client's network the parameters of its state."""
    with torch.no_grad():
        for name, parameter in stack.named_parameters():
            parameter[client] = state[f"{prefix}.{name}"]
