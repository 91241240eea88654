"""Clients in actors or in the driver, and what can be asked of them: nothing but parameters and statistics comes back."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from rllib_wireless.algorithms.actors import ActorPool, ManagedActor
from rllib_wireless.algorithms.fedmorl.baselines import ClientsApart, PooledClients
from rllib_wireless.algorithms.fedmorl.client import ClientGroup, ClientUpdate
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.statistics import Statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights
from rllib_wireless.policies import NetworkPolicy

logger = logging.getLogger(__name__)

_LATE = "late"

_KINDS: dict[str, type[ClientGroup] | type[ClientsApart]] = {
    "models": ClientGroup,
    "data": PooledClients,
    "policies": ClientsApart,
    "nothing": ClientsApart,
}


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
        self._group: ClientGroup | ClientsApart | None = None

    @property
    def group(self) -> ClientGroup | ClientsApart:
        """The clients; their data are opened at the first call, so that what is wrong with them is told to the caller."""
        if self._group is None:
            self._group = _KINDS[self._arguments[1].federate](*self._arguments)
        return self._group

    def statistics(self) -> dict[str, Statistics]:
        """Sums over each client's rows."""
        return self.group.statistics()

    def train_model(
        self, weights: Weights, statistics: Statistics, round: int, clients: Sequence[str] | None = None
    ) -> dict[str, ClientUpdate]:
        """Train the global model on the rows of each of these clients; of all if None."""
        return self.group.train_model(weights, statistics, round=round, clients=clients)

    def improve_policies(self, weights: Weights, statistics: Statistics, iteration: int) -> dict[str, dict[str, float]]:
        """One policy iteration of each client in the global model; only figures come back."""
        return self.group.improve_policies(weights, statistics, iteration=iteration)

    def policies(self, iteration: int) -> dict[str, NetworkPolicy]:
        """A copy of each client's policy, for evaluation and export in a simulation."""
        return self.group.policies(iteration)

    def adopt_policy(self, policy: NetworkPolicy, iteration: int) -> dict[str, bool]:
        """Give the clients that took part in an iteration the average of all policies (`federate="policies"`)."""
        return self.group.adopt_policy(policy, iteration)


class ClientPool(ActorPool):
    """Actors with clients. One that owes an answer is not asked again until it has given it, late and in vain."""

    def __init__(self, actor_class: type, arguments: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(actor_class, arguments)
        self._late: set[int] = set()

    def free(self, wanted: Sequence[int], *, restore_s: float, timeout_s: float, wait: bool) -> list[int]:
        """Actors that can be asked, of those wanted.

        Args:
            wanted: Indices.
            restore_s: How long to wait for lost actors.
            timeout_s: How long to wait for late ones, if `wait` or if all that are wanted are late.
            wait: Whether to.
        """
        late = self._late.intersection(wanted)
        self._settle(timeout_s if late and (wait or len(late) == len(wanted)) else 0.0)
        self.restore(restore_s)
        return [actor for actor in wanted if actor not in self._late]

    @override
    def call(
        self, method: str, arguments: Mapping[int, Mapping[str, Any]], *, timeout_s: float | None = None
    ) -> dict[int, Any]:
        answers = super().call(method, arguments, timeout_s=timeout_s)
        # An actor works off its calls in order: once it answers this ping, it has nothing else to do.
        late = [a for a in arguments if a not in answers and self._manager.is_actor_healthy(a)]
        if late:
            self._late.update(late)
            self._manager.foreach_actor_async("ping", tag=_LATE, remote_actor_ids=late)
        return answers

    def _settle(self, timeout_s: float) -> None:
        """See which late actors are done, or dead."""
        for result in self._manager.fetch_ready_async_reqs(tags=_LATE, timeout_seconds=timeout_s):
            self._late.discard(result.actor_id)


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
        self._pool: ClientPool | None = None
        self._local: ClientHost | None = None
        if settings.federate == "data":  # rows that were given away are in one place
            num_actors = min(num_actors, 1)
        if num_actors:
            shares = np.array_split(np.array(self.clients), min(num_actors, len(self.clients)))
            self._shares = [[str(client) for client in share] for share in shares]
            arguments = [
                {
                    "folders": {client: folders[client] for client in share},
                    "settings": settings,
                    "state_dir": state_dir,
                    "seed": seed,
                }
                for share in self._shares
            ]
            self._pool = ClientPool(ClientHost, arguments)
        else:
            self._local = ClientHost(folders, settings, state_dir, seed)

    def ask(
        self, method: str, clients: Sequence[str] | None = None, *, wait: bool = False, **arguments: Any
    ) -> dict[str, Any]:
        """Ask clients; those whose process died or is too late are missing.

        Args:
            method: A method of `ClientHost`.
            clients: Whom to ask, where the method can be asked of some; all if None.
            wait: Whether to wait for clients that still owe an answer; otherwise these are left out.
            **arguments: The method's arguments.

        Returns:
            Answers by client, in the order of the clients.

        Raises:
            UserError: What was wrong with a client's data.
        """
        if self._local is not None:
            chosen = {} if clients is None else {"clients": list(clients)}
            answers = getattr(self._local, method)(**arguments, **chosen)
        else:
            answers = self._ask_actors(method, clients, wait, arguments)
        return {client: answers[client] for client in self.clients if client in answers}

    def _ask_actors(
        self, method: str, clients: Sequence[str] | None, wait: bool, arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        assert self._pool is not None
        calls = {}
        for actor, share in enumerate(self._shares):
            own = [client for client in share if clients is None or client in clients]
            if own:
                calls[actor] = {**arguments} if clients is None else {**arguments, "clients": own}
        free = self._pool.free(list(calls), restore_s=self._restore_s, timeout_s=self._timeout_s, wait=wait)
        if busy := [client for actor in calls if actor not in free for client in self._shares[actor]]:
            logger.warning("%s: %s owe an answer and are not asked", method, ", ".join(busy))
        replies = self._pool.call(method, {actor: calls[actor] for actor in free}, timeout_s=self._timeout_s)
        return {client: answer for reply in replies.values() for client, answer in reply.items()}

    def stop(self) -> None:
        """End the actors."""
        if self._pool is not None:
            self._pool.stop()
