"""Configuration of the task-offloading environment: everything the paper leaves open is a field with its source."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, field
from rllib_wireless.envs.sharing import SharingConfig

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Energy = Annotated[int, Field(ge=1, le=100)]
Penalty = Annotated[float, Field(ge=0.0, le=1e6)]


@dataclass(frozen=True, config=CONFIG)
class TaskOffloadingConfig(SharingConfig):
    """Devices with batteries and ageing information that share an edge server (DCC, section 3 and appendix B)."""

    owner: ClassVar[str] = "task_offloading"

    num_devices: int = field(10, "Number N of devices.", source="section 5: 10, 20 and more", ge=1, le=10_000)
    max_age: int = field(
        15, "Age of information M at which it is capped.", unit="slots", source="M, app. F", ge=2, le=1000
    )
    battery_capacity: int = field(15, "Energy B that a battery holds.", unit="units", source="B, app. F", ge=1, le=1000)
    energy_model: Literal["debt", "delay"] = field(
        "debt",
        "Processing with too little energy leaves the battery below zero, where processing is illegal; or it waits within the"
        " slot until harvesting has paid, and leaves it empty.",
        source="appendix B says both",
    )
    harvest_probability: tuple[Share, Share] = field(
        (0.4, 0.6),
        "Interval in which each device's probability of harvesting one unit in a slot is drawn.",
        source="interval not readable; notes, section 1",
    )
    processing_energy: tuple[Energy, ...] = field(
        (1, 2, 3),
        "Energies that processing may take, drawn anew in every slot.",
        unit="units",
        source="app. F",
        min_length=1,
    )
    processing_energy_jitter: float = field(
        0.2,
        "Each device weighs these energies by numbers drawn in 1 -/+ this, normalised.",
        source="interval not readable",
        ge=0.0,
        lt=1.0,
    )
    battery_penalty: tuple[Penalty, ...] = field(
        (5.0, 7.0, 10.0),
        "Cost of a battery at -1 in a slot; each device draws one of these.",
        source="app. F, symbol not readable",
        min_length=1,
    )
    battery_exponent: float = field(
        1.0,
        "A battery at -e costs this power of e times as much.",
        source="app. F, symbol not readable",
        gt=0.0,
        le=10.0,
    )
    age_cost: Literal["next", "current"] = field(
        "next", "A slot costs the age at its end, or at its begin.", source="appendix B: measured at the end"
    )
    penalty_exponent: float = field(
        1.0, "Exponent alpha of the congestion penalty f(n) = scale (n - 1)^alpha.", source="eq. (21)", gt=0.0, le=10.0
    )
    penalty_scale: float = field(
        1.0, "What a second offloading device costs each of the two.", source="not given in the paper", gt=0.0, le=1e6
    )
    start: Literal["fresh", "full", "uniform"] = field(
        "fresh",
        "An episode begins at age 1 with a battery drawn from {0, ..., B}, or full, or with age and battery drawn.",
        source="not given in the paper; related code",
    )
    episode_slots: int | None = field(
        135,
        "Length after which an episode is truncated, when .95^t is below .001; endless if not given.",
        unit="slots",
        source="not given in the paper; related code",
        ge=1,
    )
    offload_limit: Share | tuple[Share, ...] = field(
        1.0,
        "Discounted share of slots K_i in which a device may offload, against which constraint_violation is measured.",
        source="eq. (9)",
    )
    environment_seed: int = field(0, "Seed of the devices; device i is the same for any N.", ge=0, lt=2**32)

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        low, high = self.harvest_probability
        if low > high:
            raise ValueError(f"harvest_probability must be an interval, but {low} is above {high}")
        if isinstance(self.offload_limit, tuple) and len(self.offload_limit) != self.num_devices:
            raise ValueError(
                f"offload_limit must have num_devices = {self.num_devices} values, not {len(self.offload_limit)}"
            )
        return self

    @property
    def offload_limits(self) -> tuple[float, ...]:
        """K_i of each device."""
        return self.offload_limit if isinstance(self.offload_limit, tuple) else (self.offload_limit,) * self.num_devices
