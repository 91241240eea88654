"""Configuration of the channel-access environment: everything the paper leaves open is a field with its source."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, field
from rllib_wireless.envs.sharing import SharingConfig

SLOT_US = 9.0
"""Length of a slot in microseconds (paper, section 4.1)."""

Rate = Annotated[float, Field(ge=0.0, le=10.0)]


@dataclass(frozen=True, config=CONFIG)
class ChannelAccessConfig(SharingConfig):
    """802.11 stations that share one channel (FedMORL, section 4 and appendix A)."""

    owner: ClassVar[str] = "channel_access"

    num_stations: int = field(8, "Number N of stations.", source="section 5: 2 to 14", ge=1, le=1024)
    packet_slots: int = field(
        120, "How long a packet holds the channel, SIFS and ACK included.", unit="slots", source="section 4.1", ge=1
    )
    collision_slots: int | None = field(
        None, "How long a collision holds it; as a packet if not given: nobody detects it earlier.", unit="slots", ge=1
    )
    difs_slots: int = field(
        4,
        "Idle slots after a busy period before anyone counts down or sends.",
        unit="slots",
        source="36 us, table 1",
        ge=0,
    )
    queue_capacity: int = field(
        10, "Packets that a station's FIFO holds.", unit="packets", source="section 4.1", ge=1, le=1000
    )
    saturated: bool = field(True, "Refill every queue at once; otherwise arrivals are Poisson.", source="section 5.1")
    arrival_rate: Rate | tuple[Rate, ...] = field(
        0.018,
        "Poisson arrivals of a station, one number or one per station.",
        unit="packets/slot",
        source="2000/s, QPMIX",
    )
    retry_limit: int | None = field(
        None, "Retries after a packet's first collision before it is dropped; endless if not given.", ge=0
    )
    countdown: Literal["freeze", "bianchi"] = field(
        "freeze",
        "A busy period leaves backoffs untouched, or counts as one slot as in Bianchi's chain.",
        source="section 4.1",
    )
    lowest_backoff: Literal[0, 1] = field(
        0, "Backoffs are drawn from {lowest_backoff, ..., CW}.", unit="slots", source="802.11"
    )
    d2lt: Literal["global", "local"] = field(
        "global",
        "Delay to last transmission as a share of the network's sum, or own / (own + slots since a success of others).",
        source="appendix A.2; local: QPMIX",
    )
    channel_state: Literal["event", "slot"] = field(
        "event",
        "Channel state and previous action tell the last event, or the last slot literally (after DIFS always IDLE and 0).",
        source="section 4.2",
    )
    rank: bool = field(
        False, "Observe the share of other stations that succeeded since the own last success (overheard ACKs)."
    )
    history: int = field(
        0, "Observe a window of the last k channel events; idle slots in a row are one.", source="QLBT: 5", ge=0, le=64
    )
    alpha: float | None = field(
        None,
        "Weight of the local delay penalty of eq. (3), which accrues every slot. N / 400 if not given: a station waits for"
        " 1 / N of the network's delay on average, so the penalty over a packet is then the same for any N.",
        source="not given in the paper; chosen on validation seeds",
        ge=0.0,
        le=100.0,
    )
    time_step: Literal["decision", "slot"] = field("decision", "A step is a decision epoch, or every slot.")
    episode_slots: int | None = field(
        1_000_000,
        "Length after which an episode is truncated at its next decision; endless if not given.",
        unit="slots",
        ge=1,
    )

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        if isinstance(self.arrival_rate, tuple) and len(self.arrival_rate) != self.num_stations:
            raise ValueError(
                f"arrival_rate must have num_stations = {self.num_stations} values, not {len(self.arrival_rate)}"
            )
        if not self.saturated and max(self.arrival_rates) == 0.0:
            raise ValueError("arrival_rate must be above 0 for one station at least, unless saturated")
        return self

    @property
    def arrival_rates(self) -> tuple[float, ...]:
        """Arrival rate of each station in packets per slot."""
        return self.arrival_rate if isinstance(self.arrival_rate, tuple) else (self.arrival_rate,) * self.num_stations

    @property
    def delay_weight(self) -> float:
        """Alpha of eq. (3)."""
        return self.num_stations / 400 if self.alpha is None else self.alpha
