"""Hyper-parameters of SCAM-FQI, with their sources."""

from typing import Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.policies.choice import Mode

_RELATED = "related code"


@dataclass(frozen=True, config=CONFIG)
class SCAMFQISettings(Configuration):
    """Hyper-parameters of SCAM-FQI."""

    owner: ClassVar[str] = "scam_fqi"

    fqi_iterations: int = field(10, "Iterations K of eq. (5).", source=_RELATED, ge=1)
    initial_values: Literal["zero", "monte_carlo"] = field(
        "zero",
        "What follows a decision in the first iteration: nothing, or the return that was recorded, which makes it one step of"
        " improvement on the policy of the data.",
        source="eq. (5) begins with some function",
    )
    gamma: float = field(0.99, "Discount of a decision, or of a unit of time.", source=_RELATED, ge=0.0, le=1.0)
    discount: Literal["time", "decision"] = field(
        "decision", "Discount gamma ** duration, or gamma for each decision however long it takes.", source=_RELATED
    )
    mask_targets: bool = field(
        True, "Take the maximum in a target over the legal actions alone.", source="related code takes all"
    )
    regressor: str = field(
        "ExtraTreesRegressor",
        "A regressor of scikit-learn by the name of its class, of trees or linear; or `torch`, a network per agent.",
        source="section 4",
    )
    actions: Literal["separate", "input"] = field(
        "separate", "A regressor for each action of an agent, or one that is told the action.", source=_RELATED
    )
    n_estimators: int = field(30, "Trees of a forest.", source=_RELATED, ge=1)
    min_samples_split: int = field(3, "Fewest rows of a node that is split.", source=_RELATED, ge=2)
    min_samples_leaf: int = field(
        1, "Fewest rows of a leaf; few make estimates that many shared columns spoil.", source=_RELATED, ge=1
    )
    regressor_params: dict[str, Any] = field(
        {}, "Further arguments of the regressor's class; of `torch`: `hiddens`, `lr`, `steps`, `batch_size`."
    )
    mode: Mode = field("greedy", "How the policy acts.")
    epsilon: float = field(
        0.15, "Share of decisions that are uniform over the legal actions.", source="section 4", ge=0.0, le=1.0
    )
    num_fitter_actors: int = field(0, "Ray actors that share the agents; 0 fits all in the driver.", ge=0)
    actor_timeout_s: float = field(3600.0, "How long to wait for an actor.", unit="s", gt=0.0)
