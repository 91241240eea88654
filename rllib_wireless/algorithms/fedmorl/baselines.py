"""What FedMORL is compared with: clients that share nothing, their rows, or their policies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from rllib_wireless.algorithms.fedmorl.client import ClientGroup, ClientUpdate
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.statistics import Statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights, WorldModel
from rllib_wireless.policies import NetworkPolicy, StackedMLP

Arrays = TypeVar("Arrays", Weights, Statistics)


class PooledClients(ClientGroup):
    """Clients that give their rows away: one model, whose every step takes a minibatch of each client's rows.

    Their models begin alike and take the same steps, along the gradient of the mean loss over all clients' rows: the gradients
    are averaged, weighted by numbers of rows. A round takes as many steps and rows as one of FedMORL's.
    """

    @override
    def _model(self, weights: Weights, statistics: Statistics, num_clients: int = 1) -> WorldModel:
        model = super()._model(weights, statistics, num_clients)
        if num_clients > 1:
            for parameter in model.parameters():
                parameter.register_hook(self._pooled)  # type: ignore[no-untyped-call]
        return model

    def _pooled(self, gradient: Tensor) -> Tensor:
        """The gradient [K * E, ...] of the pooled loss for each client's copy of the model."""
        own = gradient.reshape(len(self.clients), -1)
        shares = self._training.sizes / self._training.sizes.sum()
        return (shares[:, None] * own).sum(0).expand_as(own).reshape(gradient.shape)


class ClientsApart:
    """Clients without a common model: each is a group of its own, with its own statistics and parameters.

    It answers what a `ClientGroup` does; parameters and statistics go in and out of `join`.

    Args:
        folders: Each client's own data.
        settings: Hyper-parameters.
        state_dir: Where each client keeps its policies.
        seed: Seed of the run.
    """

    def __init__(self, folders: Mapping[str, Path], settings: FedMORLSettings, state_dir: Path, seed: int) -> None:
        self._groups = {c: ClientGroup({c: folder}, settings, state_dir, seed) for c, folder in folders.items()}

    def statistics(self) -> dict[str, Statistics]:
        """Each client's sums."""
        return self._merged("statistics")

    def train_model(self, weights: Weights, statistics: Statistics, **others: Any) -> dict[str, ClientUpdate]:
        """Train each client's model on its own rows."""
        return self._merged("train_model", weights, statistics, **others)

    def improve_policies(self, weights: Weights, statistics: Statistics, **others: Any) -> dict[str, dict[str, float]]:
        """One policy iteration of each client in its own model."""
        return self._merged("improve_policies", weights, statistics, **others)

    def policies(self, iteration: int) -> dict[str, NetworkPolicy]:
        """A copy of each client's policy."""
        return self._merged("policies", iteration=iteration)

    def adopt_policy(self, policy: NetworkPolicy, iteration: int) -> dict[str, bool]:
        """Give each client the policy in place of its own."""
        return self._merged("adopt_policy", policy=policy, iteration=iteration)

    def _merged(self, method: str, *joined: Any, **others: Any) -> dict[str, Any]:
        """Each client's own answer to its own part of what is joined."""
        merged: dict[str, Any] = {}
        for client, group in self._groups.items():
            merged |= getattr(group, method)(*(part(arrays, client) for arrays in joined), **others)
        return merged


def join(parts: Mapping[str, Arrays]) -> Arrays:
    """Several clients' arrays under names that tell whose they are."""
    return {f"{client}:{name}": array for client, own in parts.items() for name, array in own.items()}


def part(joined: Arrays, client: str) -> Arrays:
    """One client's arrays among those of several."""
    mine = f"{client}:"
    return {name.removeprefix(mine): array for name, array in joined.items() if name.startswith(mine)}


def average_policy(policies: Sequence[NetworkPolicy], num_samples: Sequence[float]) -> NetworkPolicy:
    """FedAvg of policies that read observations as they are, weighted by numbers of transitions."""
    shares = np.array(num_samples) / sum(num_samples)
    network = StackedMLP(1, policies[0].network.sizes)
    with torch.no_grad():
        every = zip(*(p.network.parameters() for p in policies), strict=True)
        for parameter, own in zip(network.parameters(), every, strict=True):
            # Each client in turn and in double precision, as in the averaging of models.
            parameter.copy_(sum(share * p.double() for share, p in zip(shares, own, strict=True)))
    return NetworkPolicy(network, ["average"])
