"""FedMORL: clients federate a world model, then each learns its policy in it (Kwon et al., NeurIPS 2025 workshop AI4NextG)."""

import logging
import shutil
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from typing_extensions import override

from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig
from rllib_wireless.algorithms.fedmorl.baselines import average_policy, join, part
from rllib_wireless.algorithms.fedmorl.cells import find_clients
from rllib_wireless.algorithms.fedmorl.federated_settings import FederatedSettings
from rllib_wireless.algorithms.fedmorl.federation import Federation
from rllib_wireless.algorithms.fedmorl.game import check_game
from rllib_wireless.algorithms.fedmorl.layout import Layout
from rllib_wireless.algorithms.fedmorl.screening import empty_statistics
from rllib_wireless.algorithms.fedmorl.server import Report, Server
from rllib_wireless.algorithms.fedmorl.statistics import Statistics, merge_statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights, WorldModel
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.errors import UserError
from rllib_wireless.policies import NetworkPolicy

logger = logging.getLogger(__name__)

Phase = Literal["model", "policy"]


class FedMORLConfig(OfflineMultiAgentConfig):
    r"""Configuration of FedMORL.

    Phase `model`: in round r every client k trains the global world model on its own rows, and the server averages,

    .. math:: \psi^{(r+1)} = \sum_k \frac{|D_k|}{\sum_j |D_j|} \psi_k^{(r)},

    until `rounds`, or until the held-out loss changes by less than `tolerance`. Phase `policy`: every client learns its
    policy in the global model, by planner,

    .. math:: L = -E_{(o, a) \sim D_k}[\log \pi_k(a | o) \exp(\hat Q(o, a) / \beta)],

    or by rollouts of the model with conservative Q-learning. An iteration of `train()` is one round or one policy iteration;
    the result's `phase` says which. Rows and policies never leave a client (but see `gather_policies`).

    .. code-block:: python

        config = (
            FedMORLConfig()
            .environment("channel_access", env_config={"num_stations": 8})
            .offline_data(input_="data/csma")  # collected with --split agents
            .federation(rounds=20, num_client_actors=2, aggregation="fedavg")
            .training(policy_learning="planner", beta=0.3)
        )

    Its fields are those of `FederatedSettings`.

    Attributes:
        client_state_dir: Where each client keeps its networks, in a folder of its name; a folder of the run's log directory
            if None.
    """

    settings = FederatedSettings
    requirements = Requirements(layout="agents")

    def __init__(self, algo_class: type["FedMORL"] | None = None) -> None:
        super().__init__(algo_class=algo_class or FedMORL)
        self.client_state_dir: str | None = None

    def federation(self, **settings: Any) -> Self:
        """Set the fields of the federation; as `training`, under the name of what they are about."""
        return self.training(**settings)

    @override
    def set_output(self, out: Path) -> None:
        self.client_state_dir = str(out / "clients")

    @override
    def caution(self) -> str | None:
        return {"planner": "beta", "rollout": "cql_alpha"}.get(self.policy_learning)


class FedMORL(OfflineMultiAgentAlgorithm):
    """The server: it holds the global model and the number of the round, and never a row or a policy."""

    config: FedMORLConfig

    @classmethod
    @override
    def get_default_config(cls) -> FedMORLConfig:
        return FedMORLConfig()

    @classmethod
    @override
    def own_bundles(cls, config: FedMORLConfig) -> list[dict[str, float]]:
        return [{"CPU": 1.0}] * config.num_client_actors

    @override
    def prepare(self, env: BatchedEnv) -> None:
        self.settings = cast(FederatedSettings, self.config.parsed())
        if self.settings.policy_learning == "self_play":
            check_game(env)
        self.phase: Phase = "model"
        self.round = self.policy_iteration = 0
        self.weights: Weights | None = None
        self.statistics: Statistics | None = None
        self.losses: list[float] = []
        self._layout = Layout.of(env)
        self._result: dict[str, Any] = {}
        self._gathered: tuple[int, NetworkPolicy] | None = None
        self._state_dir = Path(self.config.client_state_dir or Path(self.logdir) / "clients")
        clients = find_clients(Path(self.config.input_), env)
        self._home = clients.home
        federation = Federation(
            clients.folders,
            self.settings,
            self._state_dir,
            self.config.seed,
            num_actors=self.settings.num_client_actors,
            timeout_s=self.settings.client_timeout_s,
            restore_s=self.settings.client_restore_s,
        )
        self.server = Server(federation, self.settings, self.config.seed)

    @property
    def federation(self) -> Federation:
        """The clients."""
        return self.server.federation

    @property
    @override
    def share_done(self) -> float:
        rounds = self.settings.rounds if self.phase == "model" else self.round
        return (self.round + self.policy_iteration) / (rounds + self.settings.policy_iterations)

    @override
    def training_step(self) -> None:
        failure = self._begin() if self.weights is None else None
        phase = self.phase
        report = failure or (self._round() if phase == "model" else self._improve())
        self._result = {"phase": phase, "federation": report}

    @override
    def step(self) -> dict[str, Any]:
        result: dict[str, Any] = super().step()
        return {**result, **self._result}

    @override
    def policy(self) -> NetworkPolicy | None:
        if self.policy_iteration == 0 or not self.settings.gather_policies:
            return None
        if self._gathered is None or self._gathered[0] != self.policy_iteration:
            try:
                policies = self.client_policies()
            except UserError as error:
                logger.warning("there is no joint policy: %s", error)
                return None
            self._gathered = self.policy_iteration, NetworkPolicy.stack([policies[client] for client in self._home])
        return self._gathered[1]

    def client_policies(self) -> dict[str, NetworkPolicy]:
        """A copy of every client's policy, those of other cells included; in a simulation.

        Raises:
            UserError: Where a client does not answer, or has no policy since it missed all iterations.
        """
        policies = self.federation.ask("policies", wait=True, iteration=self.policy_iteration)
        if lost := [c for c in self.federation.clients if c not in policies]:
            raise UserError(f"no policy from {', '.join(lost)}: they did not answer")
        return policies

    def model_of(self, client: str) -> WorldModel:
        """The world model that a client plans with: the global one, or in a baseline its own."""
        assert self.weights is not None and self.statistics is not None, "no round has begun"
        apart = self.settings.apart
        model = self._model(part(self.statistics, client) if apart else self.statistics)
        model.load_weights(part(self.weights, client) if apart else self.weights)
        return model

    @override
    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        own = {
            "phase": self.phase,
            "round": self.round,
            "policy_iteration": self.policy_iteration,
            "weights": self.weights,
            "statistics": self.statistics,
            "losses": list(self.losses),
            "failed": self.server.failed,
            "rounds_of": dict(self.server.rounds_of),
            "client_state_dir": str(self._state_dir),
        }
        return {**super().get_state(components, not_components=not_components, **kwargs), "fedmorl": own}

    @override
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        own = state["fedmorl"]
        self.phase, self.round, self.policy_iteration = own["phase"], own["round"], own["policy_iteration"]
        self.weights, self.statistics, self.losses = own["weights"], own["statistics"], list(own["losses"])
        self.server.failed, self.server.rounds_of = own["failed"], dict(own["rounds_of"])
        self._gathered = None
        before = Path(own["client_state_dir"])
        if before != self._state_dir and before.exists():
            # Two algorithms from one checkpoint go on apart, each with clients of its own.
            shutil.copytree(before, self._state_dir, dirs_exist_ok=True)

    @override
    def cleanup(self) -> None:
        self.federation.stop()
        super().cleanup()

    def _begin(self) -> Report | None:
        """Gather statistics, which fix how the model sees the data, and draw its first parameters.

        Returns:
            The report of the failure, if it failed.
        """
        statistics, report = self.server.gather(empty_statistics(self._layout))
        if "failed" in report:
            return {"round": self.round, **report}
        if self.settings.apart:
            self.statistics = join(statistics)
            self.weights = join({client: self._model(own).weights() for client, own in statistics.items()})
        else:
            self.statistics = merge_statistics(list(statistics.values()))
            self.weights = self._model(self.statistics).weights()
        return None

    def _model(self, statistics: Statistics) -> WorldModel:
        """A world model before its training."""
        s, generator = self.settings, torch.Generator().manual_seed(self.config.seed)
        return WorldModel(self._layout, statistics, s.model_hiddens, generator=generator, ensemble_size=s.ensemble_size)

    def _round(self) -> Report:
        """One federated round; a failed one counts, but says nothing about convergence."""
        assert self.weights is not None and self.statistics is not None, "_begin comes first"
        self.weights, report = self.server.round(self.weights, self.statistics, self.round)
        self.round += 1
        judged = "validation_loss" in report
        if judged:
            self.losses.append(report["validation_loss"])
        if self.round == self.settings.rounds or (judged and _converged(self.losses, self.settings.tolerance)):
            self.phase = "policy"
        return {"round": self.round, **report}

    def _improve(self) -> Report:
        """One policy iteration in every client; one that failed is done again."""
        assert self.weights is not None and self.statistics is not None, "_begin comes first"
        clients, report = self.server.improve(self.weights, self.statistics, self.policy_iteration + 1)
        if clients:
            if self.settings.federate == "policies":
                self._average_policies(clients, self.policy_iteration + 1)
            self.policy_iteration += 1
        return {"policy_iteration": self.policy_iteration, **report}

    def _average_policies(self, clients: list[str], iteration: int) -> None:
        """The baseline that federates policies: those who took part go on from the mean of their policies."""
        assert self.statistics is not None
        policies = self.federation.ask("policies", iteration=iteration)
        took_part = [client for client in clients if client in policies]
        if not took_part:
            return  # as a client that misses an average, all go on from their own
        rows = [float(part(self.statistics, client)["rows"][0]) for client in took_part]
        average = average_policy([policies[client] for client in took_part], rows)
        self.federation.ask("adopt_policy", policy=average, iteration=iteration)


def _converged(losses: list[float], tolerance: float) -> bool:
    """Whether the last round changed the held-out loss by less than `tolerance` times its size.

    A log-likelihood of continuous values may pass through zero, where a share of it would mean nothing: below 1 nat it counts
    as 1.
    """
    return len(losses) > 1 and abs(losses[-1] - losses[-2]) < tolerance * max(abs(losses[-2]), 1.0)
