"""FedMORL: clients federate a world model, then each learns its policy in it (Kwon et al., NeurIPS 2025 workshop AI4NextG)."""

import math
import shutil
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import torch
from pydantic.dataclasses import dataclass
from typing_extensions import override

from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig
from rllib_wireless.algorithms.fedmorl.federation import Aggregation, Federation, aggregate, client_weights
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.world_model import Layout, Statistics, Weights, WorldModel, merge_statistics
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.configuration import CONFIG, field
from rllib_wireless.data.card import check_environment, environment_card, read_card
from rllib_wireless.data.store import client_folders
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.errors import DataError
from rllib_wireless.policies import NetworkPolicy

Phase = Literal["model", "policy"]


@dataclass(frozen=True, config=CONFIG)
class FederatedSettings(FedMORLSettings):
    """All hyper-parameters of FedMORL: those of clients, and of the federation."""

    owner: ClassVar[str] = "fedmorl"

    rounds: int = field(12, "Federated rounds at most.", source="section 3.2: until convergence", ge=1)
    tolerance: float = field(
        1e-3,
        "The model has converged when a round changes its held-out loss by less than this share; 0 runs all rounds.",
        source="not given in the paper",
        ge=0.0,
    )
    aggregation: Aggregation = field(
        "fedavg", "Mean of the clients' models, weighted by transitions or not.", source="algorithm 1: AGGREGATE"
    )
    policy_iterations: int = field(2, "Policy iterations of each client once the model is done.", ge=1)
    num_client_actors: int = field(0, "Ray actors that share the clients; 0 trains them in the driver.", ge=0)
    client_timeout_s: float = field(600.0, "How long a round waits for a client's answer.", unit="s", gt=0.0)
    client_restore_s: float = field(
        60.0, "How long a round waits for a lost client before it begins without it.", unit="s", ge=0.0
    )
    gather_policies: bool = field(
        True,
        "Copy policies to the driver, for evaluation and export only; a deployment leaves them with their clients.",
    )


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
        self.phase: Phase = "model"
        self.round = self.policy_iteration = 0
        self.weights: Weights | None = None
        self.statistics: Statistics | None = None
        self.losses: list[float] = []
        self._layout = Layout.of(env)
        self._result: dict[str, Any] = {}
        self._gathered: tuple[int, NetworkPolicy] | None = None
        self._state_dir = Path(self.config.client_state_dir or Path(self.logdir) / "clients")
        self.federation = Federation(
            _folders(Path(self.config.input_), env),
            self.settings,
            self._state_dir,
            self.config.seed,
            num_actors=self.settings.num_client_actors,
            timeout_s=self.settings.client_timeout_s,
            restore_s=self.settings.client_restore_s,
        )

    @property
    @override
    def share_done(self) -> float:
        rounds = self.settings.rounds if self.phase == "model" else self.round
        return (self.round + self.policy_iteration) / (rounds + self.settings.policy_iterations)

    @override
    def training_step(self) -> None:
        if self.weights is None:
            self._begin()
        self._result = {"phase": self.phase, "federation": self._round() if self.phase == "model" else self._improve()}

    @override
    def step(self) -> dict[str, Any]:
        result: dict[str, Any] = super().step()
        return {**result, **self._result}

    @override
    def policy(self) -> NetworkPolicy | None:
        if self.policy_iteration == 0 or not self.settings.gather_policies:
            return None
        if self._gathered is None or self._gathered[0] != self.policy_iteration:
            policies = self.federation.ask("policies", iteration=self.policy_iteration)
            if lost := [c for c in self.federation.clients if c not in policies]:
                raise RuntimeError(f"no policy from {', '.join(lost)}: they did not answer")
            self._gathered = self.policy_iteration, NetworkPolicy.stack(list(policies.values()))
        return self._gathered[1]

    @override
    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        own = {
            "phase": self.phase,
            "round": self.round,
            "policy_iteration": self.policy_iteration,
            "weights": self.weights,
            "statistics": self.statistics,
            "losses": list(self.losses),
            "client_state_dir": str(self._state_dir),
        }
        return {**super().get_state(components, not_components=not_components, **kwargs), "fedmorl": own}

    @override
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        own = state["fedmorl"]
        self.phase, self.round, self.policy_iteration = own["phase"], own["round"], own["policy_iteration"]
        self.weights, self.statistics, self.losses = own["weights"], own["statistics"], list(own["losses"])
        self._gathered = None
        before = Path(own["client_state_dir"])
        if before != self._state_dir and before.exists():
            # Two algorithms from one checkpoint go on apart, each with clients of its own.
            shutil.copytree(before, self._state_dir, dirs_exist_ok=True)

    @override
    def cleanup(self) -> None:
        self.federation.stop()
        super().cleanup()

    def _begin(self) -> None:
        """Gather statistics, which fix how the model sees the data, and draw its first parameters."""
        statistics = self.federation.ask("statistics")
        if lost := [c for c in self.federation.clients if c not in statistics]:
            raise RuntimeError(f"no statistics from {', '.join(lost)}: the first round needs all clients")
        self.statistics = merge_statistics(list(statistics.values()))
        generator = torch.Generator().manual_seed(self.config.seed)
        model = WorldModel(self._layout, self.statistics, self.settings.model_hiddens, generator=generator)
        self.weights = model.weights()

    def _round(self) -> dict[str, Any]:
        """One federated round."""
        updates = list(
            self.federation.ask(
                "train_model", weights=self.weights, statistics=self.statistics, round=self.round
            ).values()
        )
        how = self.settings.aggregation
        self.weights = aggregate(updates, how)
        self.round += 1
        shares = client_weights(updates, how)
        metrics = {
            name: sum(share * u.metrics[name] for share, u in zip(shares, updates, strict=True))
            for name in updates[0].metrics
        }
        self.losses.append(metrics["validation_loss"])
        if self.round == self.settings.rounds or _converged(self.losses, self.settings.tolerance):
            self.phase = "policy"
        return {"round": self.round, "clients": len(updates), **metrics}

    def _improve(self) -> dict[str, Any]:
        """One policy iteration in every client."""
        figures = self.federation.ask(
            "improve_policies", weights=self.weights, statistics=self.statistics, iteration=self.policy_iteration + 1
        )
        self.policy_iteration += 1
        names = next(iter(figures.values()))
        means = {name: math.fsum(f[name] for f in figures.values()) / len(figures) for name in names}
        return {"policy_iteration": self.policy_iteration, "clients": len(figures), **means}


def _folders(path: Path, env: BatchedEnv) -> dict[str, Path]:
    """Each agent's folder; the server reads cards and no rows.

    Raises:
        DataError: Where an agent's folder is missing or holds another environment's data.
    """
    folders = client_folders(path)
    wanted = environment_card(env)
    for folder in folders.values():
        check_environment(read_card(folder), wanted, folder)
    if lost := [agent for agent in env.agents if agent not in folders]:
        raise DataError(f"there is no folder of {', '.join(lost)}; every agent is a client", path)
    return {agent: folders[agent] for agent in env.agents}


def _converged(losses: list[float], tolerance: float) -> bool:
    """Whether the last round changed the held-out loss by less than `tolerance` times its size.

    A log-likelihood of continuous values may pass through zero, where a share of it would mean nothing: below 1 nat it counts
    as 1.
    """
    return len(losses) > 1 and abs(losses[-1] - losses[-2]) < tolerance * max(abs(losses[-2]), 1.0)
