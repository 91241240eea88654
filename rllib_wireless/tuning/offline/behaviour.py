"""With what probability the logged actions were chosen: as recorded, or by a fitted model of the behaviour."""

from typing import Literal

import numpy as np
import torch

from rllib_wireless.algorithms.losses import imitation
from rllib_wireless.envs.base import FloatArray
from rllib_wireless.errors import UserError
from rllib_wireless.policies.network import NetworkPolicy, StackedMLP
from rllib_wireless.tuning.offline.log import Log, as_step

Behaviour = Literal["recorded", "fit"]

_HIDDENS = (64, 64)
_STEPS, _BATCH, _LR = 600, 512, 5e-3
_FLOOR = 1e-3  # of probabilities: what a fitted model takes for impossible was done


def behaviour_probabilities(log: Log, behaviour: Behaviour, seed: int) -> FloatArray:
    """Probabilities [T, N] of the logged actions.

    Args:
        log: The log.
        behaviour: `recorded`, or `fit` for a clone of what acted.
        seed: Seed of the clone.

    Raises:
        UserError: Where they are to be the recorded ones, and there are none.
    """
    if behaviour == "recorded":
        if log.action_prob is None:
            raise UserError(
                "the data hold no probabilities of the actions (action_prob: absent); behaviour=fit takes those of a clone of "
                "what acted, which is exact only where that chose by the observation alone"
            )
        return log.action_prob
    law = _clone(log, seed).probabilities(as_step(log.obs, log.action_mask))
    found: FloatArray = np.take_along_axis(law, log.actions[..., None], -1)[..., 0]
    return np.maximum(found, _FLOOR)


def _clone(log: Log, seed: int) -> NetworkPolicy:
    """A network for each agent, fitted to what it did by maximum likelihood."""
    generator, random = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    num_agents, width = log.obs.shape[1:]
    network = StackedMLP(num_agents, (width, *_HIDDENS, log.action_mask.shape[-1]), generator)
    mean, std = log.obs.mean(0), log.obs.std(0)
    std = np.where(std > 1e-6, std, 1.0)
    obs, actions, mask = (torch.from_numpy(x) for x in ((log.obs - mean) / std, log.actions, log.action_mask))
    optimizer = torch.optim.Adam(network.parameters(), lr=_LR, fused=True)
    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = _LR * (1.0 - step / _STEPS)
        rows = torch.from_numpy(random.integers(len(log), size=_BATCH))
        loss = imitation(network(obs[rows]), actions[rows], mask[rows])
        optimizer.zero_grad()
        loss.total.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():  # the first layer reads observations as they are
        network.weights[0] /= torch.from_numpy(std)[..., None]
        network.biases[0] -= torch.einsum("nd,ndh->nh", torch.from_numpy(mean), network.weights[0])[:, None]
    return NetworkPolicy(network, log.agents)
