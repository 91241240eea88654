"""Slotted 802.11 distributed channel access as a BatchedEnv: B copies of N stations on one channel.

A step is a decision epoch: an idle slot after DIFS in which the stations with a packet transmit or defer. If nobody
transmits it lasts one slot (with all queues empty, until the next arrival); otherwise the channel is busy for the packet
and DIFS. Under `time_step="slot"` the same machine is stopped after every slot.
"""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import (
    BoolArray,
    EnvStep,
    FinalStep,
    FloatArray,
    IntArray,
    ObsField,
    Statistics,
)
from rllib_wireless.envs.channel_access import channel
from rllib_wireless.envs.channel_access.channel import Params
from rllib_wireless.envs.channel_access.config import ChannelAccessConfig
from rllib_wireless.envs.sharing import SharingEnv
from rllib_wireless.errors import UserError

_MAX_STAGE = 16  # what local_state() divides the backoff stage by


class ChannelAccess(SharingEnv):
    """B copies of N stations on one channel; action 0 defers, 1 transmits.

    Time is in slots of 9 us. The cost is (delay share) * (queue share), summed over the slots of the step. The reward is
    eq. (3) of the paper: +1 for all at the end of a successful transmission, -1 at the end of a collision, less
    alpha * cost. Data hold both, so that another alpha can be had without new data.
    """

    name = "channel_access"
    duration_unit = "slots"
    gamma = 0.999
    has_cost = True

    config: ChannelAccessConfig

    def __init__(self, config: ChannelAccessConfig, num_envs: int = 1, strict: bool = False) -> None:
        super().__init__(config, num_envs, strict)
        b, n = num_envs, config.num_stations
        self.agents = tuple(f"station_{i}" for i in range(n))
        own = _obs_fields(config)
        self._set_fields(own, _LOCAL_FIELDS)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._params = _params(config, seed=0)
        self._channel = channel.allocate(b, n, config.queue_capacity, config.history)
        self._obs = np.zeros((b, n, sum(f.size for f in own)), np.float32)
        self._mask = np.zeros((b, n, 2), np.bool_)
        self._acting = np.zeros((b, n), np.bool_)
        self._reward = np.zeros((b, n), np.float32)
        self._duration = np.zeros(b, np.float32)
        self._cost = np.zeros((b, n), np.float32)
        self._never = np.zeros(b, np.bool_)

    @property
    def outcome(self) -> IntArray:
        """What the last step brought, [B]: IDLE, BUSY (within a busy period, slot steps only), SUCCESS or COLLISION."""
        return self._channel.copies[:, channel.OUTCOME]

    @property
    def idle_slots(self) -> IntArray:
        """Slots open to contention that passed idle at the end of the last step, [B]; DIFS is not among them."""
        return self._channel.copies[:, channel.IDLE_SLOTS]

    @property
    def sending(self) -> IntArray:
        """Who transmitted in the last busy period, [B, N], 0 or 1."""
        return self._channel.stations[:, channel.SENDING]

    @property
    def retries(self) -> IntArray:
        """Collisions so far of the packet at the head of each queue, [B, N]."""
        return self._channel.stations[:, channel.RETRIES]

    @property
    def queue(self) -> IntArray:
        """Packets in each queue, [B, N]."""
        return self._channel.stations[:, channel.QUEUE]

    def reset(self, seed: int = 0) -> EnvStep:
        self._params = _params(self.config, seed)
        self._channel.stations[:, channel.DRAWS] = 0
        self._reward[:] = self._cost[:] = 0.0
        self._duration[:] = 0.0
        channel.begin(self._params, self._channel, np.arange(self.num_envs))
        return self._step(self._never, None)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        chosen = np.ascontiguousarray(actions, np.int64)
        if self.strict:
            self.refuse_illegal(chosen, self._mask)
        channel.advance(self._params, self._channel, chosen, self._reward, self._cost, self._duration)
        return self._go_on()

    def hear(self, actions: IntArray, event: IntArray, duration: IntArray) -> EnvStep:
        if not self.config.saturated or self.config.time_step == "slot":
            raise UserError(
                "what stations hear tells their observations only with saturated=True and time_step=decision: arrivals are not heard"
            )
        done, heard, slots = (np.ascontiguousarray(a, np.int64) for a in (actions, event, duration))
        channel.hear(self._params, self._channel, done, heard, slots, self._cost)
        self._reward[:] = 0.0
        self._duration[:] = duration
        return self._go_on()

    def _go_on(self) -> EnvStep:
        """Show what there is after a step; copies at the end of their episode begin anew."""
        truncated, final = self._never, None
        if self.config.episode_slots is not None:
            copies = self._channel.copies
            over = (copies[:, channel.TIME] >= self.config.episode_slots) & (copies[:, channel.PHASE] == channel.DECIDE)
            if over.any():
                truncated, final = over, self._final(np.flatnonzero(over))
                channel.begin(self._params, self._channel, final.copies)
        return self._step(truncated, final)

    def local_state(self) -> FloatArray:
        """Share of the network's delay to last transmission, queue share, backoff stage / 16, whether it sent last."""
        stations = self._channel.stations
        delay = self._channel.copies[:, channel.TIME, None] - stations[:, channel.LAST_SUCCESS]
        share = delay / np.maximum(delay.sum(1, keepdims=True), 1)
        queue = stations[:, channel.QUEUE] / self.config.queue_capacity
        stage = np.minimum(stations[:, channel.RETRIES] / _MAX_STAGE, 1.0)
        return np.stack((share, queue, stage, stations[:, channel.TRANSMITTED]), axis=-1).astype(np.float32)

    def state(self) -> FloatArray:
        """The blocks of local state, then the last event heard, one-hot over IDLE, BUSY, SUCCESS, COLLISION."""
        heard = np.eye(4, dtype=np.float32)[self._channel.copies[:, channel.HEARD]]
        return np.concatenate([self.local_state().reshape(self.num_envs, -1), heard], axis=1)

    def statistics(self) -> Statistics:
        return {name: value.copy() for name, value in self._counts().items()}

    def _counts(self) -> Statistics:
        per_copy = {name: self._channel.counts[:, k] for k, name in enumerate(channel.COPY_COUNTS)}
        return per_copy | {name: self._channel.station_counts[:, k] for k, name in enumerate(channel.STATION_COUNTS)}

    def _step(self, truncated: BoolArray, final: FinalStep | None) -> EnvStep:
        channel.observe(self._params, self._channel, self._obs, self._mask, self._acting)
        return EnvStep(
            obs=self._with_neighbours(self._obs),
            action_mask=self._mask,
            acting=self._acting,
            reward=self._reward,
            cost=self._cost,
            terminated=self._never,
            truncated=truncated,
            duration=self._duration,
            final=final,
        )

    def _final(self, copies: IntArray) -> FinalStep:
        channel.observe(self._params, self._channel, self._obs, self._mask, self._acting)
        return self.ended(copies, self._with_neighbours(self._obs), self._mask, self._acting)


_LOCAL_FIELDS = (
    ObsField("d2lt", "continuous", shared="compressed", description="delay to last transmission / network's sum"),
    ObsField("queue", "continuous", shared="full", description="queue length / capacity"),
    ObsField("stage", "continuous", description=f"failed attempts of the packet / {_MAX_STAGE}, at most 1"),
    ObsField("transmitted", "continuous", description="whether it transmitted last"),
)


def _obs_fields(config: ChannelAccessConfig) -> tuple[ObsField, ...]:
    """The columns that channel.observe writes, in its order."""
    share = "network's sum" if config.d2lt == "global" else "own and the others' delay"
    last = f", as of the last {config.channel_state}"
    fields = [
        ObsField("channel_state", "categorical", 4, common=True, description=f"IDLE, BUSY, SUCCESS or COLLISION{last}"),
        ObsField("previous_action", "categorical", 2, description=f"deferred or transmitted{last}"),
        ObsField("d2lt", "continuous", description=f"delay to last transmission / {share}"),
        ObsField("queue", "continuous", description="queue length / capacity"),
    ]
    if config.rank:
        description = "share of other stations that succeeded since the own last success"
        fields.append(ObsField("rank", "continuous", description=description))
    if config.history:
        width = channel.HISTORY_FIELDS * config.history
        description = (
            "per event, newest first: idle, success, collision; own transmission; duration / busy period; d2lt"
        )
        fields.append(ObsField("history", "continuous", width, description=description))
    return tuple(fields)


def _params(c: ChannelAccessConfig, seed: int) -> Params:
    return Params(
        slot_steps=c.time_step == "slot",
        saturated=c.saturated,
        packet_slots=c.packet_slots,
        collision_slots=c.packet_slots if c.collision_slots is None else c.collision_slots,
        difs_slots=c.difs_slots,
        retry_limit=-1 if c.retry_limit is None else c.retry_limit,
        global_d2lt=c.d2lt == "global",
        literal_slots=c.channel_state == "slot",
        rank=c.rank,
        alpha=c.delay_weight,
        rates=np.array(c.arrival_rates, np.float64),
        seed=seed,
    )
