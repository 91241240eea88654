"""Hyper-parameters of FedMORL's federation: rounds, who takes part, how answers are merged, and what is waited for."""

from typing import ClassVar, Self

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from rllib_wireless.algorithms.fedmorl.aggregation import Aggregation
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.configuration import CONFIG, field


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
    policy_iterations: int = field(2, "Policy iterations of each client once the model is done.", ge=1)

    # Merging
    aggregation: Aggregation = field(
        "fedavg",
        "Mean of the clients' models, weighted by transitions (`fedavg`) or not (`mean`); or a rule that some wrong clients "
        "cannot move far: `median`, `trimmed_mean`, `krum`.",
        source="algorithm 1: AGGREGATE",
    )
    num_byzantine: int = field(
        0, "Clients f that may send anything, which the rule is to withstand; `krum` needs more than 2 f + 2.", ge=0
    )

    # Who takes part
    client_share: float = field(1.0, "Share of the clients asked in a round, drawn anew in each.", gt=0.0, le=1.0)
    min_clients: int = field(
        1, "Valid answers below which a round fails and leaves the model as it is; at least so many are asked.", ge=1
    )
    max_failed_rounds: int = field(3, "Failed rounds in a row that end the run.", ge=1)

    # Privacy
    clip_norm: float | None = field(
        None, "L2 norm to which a client's change of the model is shortened; not at all if not given.", gt=0.0
    )
    noise_multiplier: float = field(
        0.0,
        "Noise in the sum of clipped changes, in units of `clip_norm`; needs `aggregation` mean. What it guarantees, "
        "`epsilon`, holds for the models of the rounds, not for statistics, counts and losses.",
        source="McMahan et al., ICLR 2018",
        ge=0.0,
    )
    delta: float = field(
        1e-3, "The delta that `epsilon` is told for; well below 1 / number of clients.", gt=0.0, lt=1.0
    )

    # Actors and faults
    num_client_actors: int = field(0, "Ray actors that share the clients; 0 trains them in the driver.", ge=0)
    client_timeout_s: float = field(600.0, "How long a round waits for a client's answer.", unit="s", gt=0.0)
    client_restore_s: float = field(
        60.0, "How long a round waits for a lost client before it begins without it.", unit="s", ge=0.0
    )
    gather_policies: bool = field(
        True,
        "Copy policies to the driver, for evaluation and export only; a deployment leaves them with their clients.",
    )

    @model_validator(mode="after")
    def _check_federation(self) -> Self:
        if self.noise_multiplier > 0.0 and (self.clip_norm is None or self.aggregation != "mean"):
            raise ValueError(
                f"noise_multiplier = {self.noise_multiplier:g} needs a clip_norm and aggregation = 'mean': it protects one "
                "client among equals"
            )
        if self.apart and (self.clip_norm is not None or self.aggregation not in ("fedavg", "mean")):
            raise ValueError(
                f"federate = {self.federate!r} merges no models, so it needs no clip_norm and no robust rule"
            )
        return self
