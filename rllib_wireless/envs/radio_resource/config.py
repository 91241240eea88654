"""Configuration of the radio-resource environment: everything the paper leaves open is a field with its source."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from rllib_wireless.configuration import CONFIG, field
from rllib_wireless.envs.sharing import SharingConfig

SPLITS = ("train", "validation", "test")

SPEED_OF_LIGHT = 299_792_458.0
"""In m/s."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    # TR 38.901, tables 7.2-2 (layout), 7.4.1-1 (path loss) and 7.8-1 (calibration at 6 GHz); users as in ITU-R M.2412.
    "office": {
        "num_access_points": 12,
        "num_users": 120,
        "area_m": (120.0, 50.0),
        "layout": "grid",
        "min_user_distance_m": 0.0,
        "height_difference_m": 2.0,
        "power_dbm": 24.0,
        "carrier_hz": 6e9,
        "bandwidth_hz": 20e6,
        "noise_figure_db": 9.0,
        "path_loss": "indoor_open_office",
    },
}
"""The fields that a preset gives other defaults."""

Length = Annotated[float, Field(gt=0.0, le=1e5)]


@dataclass(frozen=True, config=CONFIG)
class RadioResourceConfig(SharingConfig):
    """Access points that schedule users under interference (CTDE-CQL, section 2)."""

    owner: ClassVar[str] = "radio_resource"

    preset: Literal["paper", "office"] = field(
        "paper",
        "Defaults of the other fields: a square of 500 m, or the indoor hotspot of TR 38.901. What is given wins.",
    )
    split: Literal["train", "validation", "test"] = field("train", "Which drops: no drop is in two splits.")
    num_access_points: int = field(4, "Number I of access points, the agents.", source="2311.11423", ge=1, le=64)
    num_users: int = field(24, "Number J of users.", source="2311.11423", ge=1, le=4096)
    top_users: int = field(3, "Number N of users that an access point chooses from.", source="2311.11423", ge=1, le=64)
    area_m: Length | tuple[Length, Length] = field(
        500.0, "Side of the square, or width and height.", unit="m", source="not given in the paper; see calibration"
    )
    layout: Literal["random", "grid"] = field(
        "random", "Access points lie uniformly at random, or in a grid in the middle of the area."
    )
    grid_spacing_m: float = field(20.0, "Distance of neighbours in the grid.", unit="m", source="TR 38.901", gt=0.0)
    min_access_point_distance_m: float = field(
        35.0, "Smallest distance of two access points that lie at random.", unit="m", source="related code", ge=0.0
    )
    min_user_distance_m: float = field(
        10.0, "Smallest distance of a user from an access point.", unit="m", source="related code", ge=0.0
    )
    height_difference_m: float = field(
        0.0, "Height of access points above users; part of a link's length.", unit="m", ge=0.0, le=1000.0
    )
    power_dbm: float = field(
        10.0, "Transmit power of an access point that is on.", unit="dBm", source="related code", ge=-50.0, le=80.0
    )
    carrier_hz: float = field(2.4e9, "Carrier frequency.", unit="Hz", source="related code", ge=0.5e9, le=100e9)
    bandwidth_hz: float = field(10e6, "Bandwidth.", unit="Hz", source="related code", gt=0.0)
    noise_dbm_per_hz: float = field(-174.0, "Density of thermal noise.", unit="dBm/Hz", source="290 K")
    noise_figure_db: float = field(
        0.0,
        "Noise figure of a user's receiver; 3GPP assumes 7 to 9.",
        unit="dB",
        source="not given in the paper",
        ge=0.0,
    )
    path_loss: Literal["dual_slope", "indoor_open_office", "indoor_mixed_office"] = field(
        "dual_slope", "Path loss, with its probability of a line of sight.", source="related code; TR 38.901"
    )
    shadowing_db: float | None = field(
        None,
        "Standard deviation of shadowing; the path loss's own if not given: 7 dB (dual slope), 3 and 8.03 dB (office).",
        unit="dB",
        source="related code; TR 38.901",
        ge=0.0,
        le=30.0,
    )
    shadowing_correlation_m: float | None = field(
        None,
        "Distance at which the shadowing of two users is correlated by 1/e; independent per link if not given.",
        unit="m",
        source="TR 38.901: 6 to 10 m indoors",
        gt=0.0,
    )
    fading: Literal["rayleigh", "none"] = field("rayleigh", "Fast fading, flat over the band and constant in a slot.")
    user_speed_mps: float = field(
        1.0,
        "Speed of the users: Doppler, and movement if `mobility` says so.",
        unit="m/s",
        source="related code",
        ge=0.0,
    )
    mobility: Literal["static", "random_direction"] = field(
        "static",
        "Users stay where they are but for the Doppler effect, or walk straight on and are reflected at the border.",
        source="not given in the paper; 1 m in an episode",
    )
    handover_margin_db: float = field(
        3.0, "How much stronger another access point must be for a moving user to change.", unit="dB", ge=0.0
    )
    slot_ms: float = field(1.0, "Length of a slot.", unit="ms", source="related code", gt=0.0)
    episode_slots: int = field(
        1000, "Length of an episode, which is then truncated.", unit="slots", source="not given in the paper", ge=1
    )
    warmup_slots: int = field(
        100,
        "Slots before an episode: round robin, all access points on, in no statistic.",
        unit="slots",
        source="related code: 50 to 100",
        ge=0,
    )
    averaging_factor: float = field(
        0.01, "Weight eta of the newest rate in a user's average rate.", source="2002.06215", gt=0.0, le=1.0
    )
    fairness_exponent: float = field(
        0.8, "Lambda of the reward: 0 is the sum rate, 1 proportional fairness.", source="section 4", ge=0.0, le=1.0
    )
    max_weight: float = field(
        100.0, "Largest weight of a user, 1 / average rate.", unit="Hz s/bit", source="not given in the paper", gt=1.0
    )
    max_rate: float | None = field(
        None,
        "Largest rate that the modulation allows, 7.4 with 256-QAM (TS 38.214); Shannon's alone if not given.",
        unit="bit/s/Hz",
        gt=0.0,
    )
    arrival_rate_hz: float | None = field(
        None, "Poisson arrivals of packets for a user; buffers are always full if not given.", unit="packets/s", gt=0.0
    )
    packet_bytes: int = field(
        100_000, "Size of a packet, where there are arrivals.", unit="bytes", source="not given in the paper", ge=1
    )
    reports: Literal["sinr", "powers"] = field(
        "sinr",
        "What users report of a slot to their access point: the SINR with all access points on, or also the power from each.",
        source="summary: SINR; powers are what itlinq knows",
    )
    mean_session_slots: float | None = field(
        None,
        "Mean of the exponential time that a user stays; all stay from start to end if not given.",
        unit="slots",
        gt=0.0,
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        fields = (given.kwargs or {}) if isinstance(given, ArgsKwargs) else given
        filled = {**PRESETS.get(str(fields.get("preset", "paper")), {}), **fields}
        return ArgsKwargs(given.args, filled) if isinstance(given, ArgsKwargs) else filled

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.num_users < self.num_access_points:
            raise ValueError(
                f"num_users must be at least num_access_points = {self.num_access_points}, not {self.num_users}: "
                "every access point has a user"
            )
        columns, rows = self.grid
        if self.layout == "grid" and rows * self.grid_spacing_m > self.area[1] + 1e-9:
            raise ValueError(
                f"num_access_points = {self.num_access_points} in a grid of {self.grid_spacing_m:g} m make {rows} rows"
                f" of {columns}, which do not fit into {self.area[0]:g} x {self.area[1]:g} m"
            )
        return self

    @property
    def area(self) -> tuple[float, float]:
        """Width and height of the area in metres."""
        return self.area_m if isinstance(self.area_m, tuple) else (self.area_m, self.area_m)

    @property
    def grid(self) -> tuple[int, int]:
        """Columns and rows of the grid of access points."""
        columns = max(min(self.num_access_points, int(self.area[0] / self.grid_spacing_m)), 1)
        return columns, math.ceil(self.num_access_points / columns)

    @property
    def noise_dbm(self) -> float:
        """Power of the noise in the band."""
        return self.noise_dbm_per_hz + 10 * math.log10(self.bandwidth_hz) + self.noise_figure_db

    @property
    def doppler_hz(self) -> float:
        """Largest Doppler shift, v f / c."""
        return self.user_speed_mps * self.carrier_hz / SPEED_OF_LIGHT

    @property
    def bits_per_rate(self) -> float:
        """Bits that a rate of 1 bit/s/Hz brings in a slot."""
        return self.bandwidth_hz * self.slot_ms / 1000

    @property
    def arrivals_per_slot(self) -> float:
        """Packets that arrive for a user in a slot on average; 0 where buffers are always full."""
        return (self.arrival_rate_hz or 0.0) * self.slot_ms / 1000
