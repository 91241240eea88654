"""Clients in actors or in the driver, and what a server does with what they send: nothing but parameters and statistics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rllib_wireless.algorithms.actors import ActorPool, ManagedActor
from rllib_wireless.algorithms.fedmorl.client import ClientGroup, ClientUpdate
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.world_model import Statistics, Weights
from rllib_wireless.policies import NetworkPolicy

Aggregation = Literal["fedavg", "mean"]


class ClientHost(ManagedActor):
    """One process with some of the clients, trained as one stack.

    The methods are all that a server can ask; what they return is all that ever leaves a client. A restarted actor is made
    anew from these arguments and goes on with what its clients wrote into their folders.

    Args:
        folders: The data of its clients, and of nobody else.
        settings: Hyper-parameters.
        state_dir: Where each client keeps its own networks, in a folder of its name.
        seed: Seed of the run.
    """

    def __init__(self, folders: Mapping[str, Path], settings: FedMORLSettings, state_dir: Path, seed: int) -> None:
        self._arguments = (dict(folders), settings, state_dir, seed)
        self._group: ClientGroup | None = None

    @property
    def group(self) -> ClientGroup:
        """The clients; their data are opened at the first call, so that what is wrong with them is told to the caller."""
        if self._group is None:
            self._group = ClientGroup(*self._arguments)
        return self._group

    def statistics(self) -> dict[str, Statistics]:
        """Sums over each client's rows."""
        return self.group.statistics()

    def train_model(self, weights: Weights, statistics: Statistics, round: int) -> dict[str, ClientUpdate]:
        """Train the global model on each client's rows."""
        return self.group.train_model(weights, statistics, round)

    def improve_policies(self, weights: Weights, statistics: Statistics, iteration: int) -> dict[str, dict[str, float]]:
        """One policy iteration of each client in the global model; only figures come back."""
        return self.group.improve_policies(weights, statistics, iteration)

    def policies(self, iteration: int) -> dict[str, NetworkPolicy]:
        """A copy of each client's policy, for evaluation and export in a simulation."""
        return self.group.policies(iteration)


class Federation:
    """All clients, wherever they are.

    Answers are merged in the order of the clients, so that sums come out alike for any number of actors.

    Args:
        folders: Each client's data.
        settings: Hyper-parameters.
        state_dir: Where clients keep what is their own.
        seed: Seed of the run.
        num_actors: Ray actors that share the clients; 0 keeps all in this process.
        timeout_s: How long a round waits for a client's answer.
        restore_s: How long it waits for a lost client to come back before it begins.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        settings: FedMORLSettings,
        state_dir: Path,
        seed: int,
        *,
        num_actors: int,
        timeout_s: float,
        restore_s: float,
    ) -> None:
        self.clients = tuple(folders)
        self._timeout_s, self._restore_s = timeout_s, restore_s
        self._pool: ActorPool | None = None
        self._local: ClientHost | None = None
        if num_actors:
            shares = np.array_split(np.array(self.clients), min(num_actors, len(self.clients)))
            arguments = [
                {
                    "folders": {str(c): folders[str(c)] for c in share},
                    "settings": settings,
                    "state_dir": state_dir,
                    "seed": seed,
                }
                for share in shares
            ]
            self._pool = ActorPool(ClientHost, arguments)
        else:
            self._local = ClientHost(folders, settings, state_dir, seed)

    def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Ask all clients; those whose process died or is too late are missing, and are asked again next time.

        Args:
            method: A method of `ClientHost`.
            **arguments: Its arguments.

        Returns:
            Answers by client, in the order of the clients.

        Raises:
            RuntimeError: Where no client answered.
            UserError: What was wrong with a client's data.
        """
        if self._local is not None:
            answers = getattr(self._local, method)(**arguments)
        else:
            assert self._pool is not None
            self._pool.restore(self._restore_s)
            everyone = dict.fromkeys(range(len(self._pool)), arguments)
            replies = self._pool.call(method, everyone, timeout_s=self._timeout_s)
            answers = {client: answer for reply in replies.values() for client, answer in reply.items()}
        if not answers:
            raise RuntimeError(f"{method}: none of {len(self.clients)} clients answered")
        return {client: answers[client] for client in self.clients if client in answers}

    def stop(self) -> None:
        """End the actors."""
        if self._pool is not None:
            self._pool.stop()


def aggregate(updates: Sequence[ClientUpdate], how: Aggregation) -> Weights:
    """The new global model: FedAvg, the mean of the clients' parameters weighted by their numbers of transitions.

    Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.

    Args:
        updates: What the clients sent, in the order of the clients.
        how: `fedavg`, or `mean` with equal weights.
    """
    shares = client_weights(updates, how)
    # Each client is added in turn, in double precision: the sum does not depend on who was faster.
    total = {name: np.zeros(value.shape) for name, value in updates[0].weights.items()}
    for share, update in zip(shares, updates, strict=True):
        for name, value in update.weights.items():
            total[name] += share * value
    return {name: value.astype(np.float32) for name, value in total.items()}


def client_weights(updates: Sequence[ClientUpdate], how: Aggregation) -> list[float]:
    """Each client's share in the mean; they sum to 1."""
    counts = [update.num_samples if how == "fedavg" else 1 for update in updates]
    return [count / sum(counts) for count in counts]
