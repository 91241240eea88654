"""Radio resource management as a BatchedEnv: access points schedule users, slot by slot, under each other's interference."""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import (
    EnvStep,
    FinalStep,
    FloatArray,
    ObsField,
    Statistics,
)
from rllib_wireless.envs.radio_resource import slots
from rllib_wireless.envs.radio_resource.config import RadioResourceConfig
from rllib_wireless.envs.radio_resource.draws import Draws, Floats, Purpose
from rllib_wireless.envs.radio_resource.drop import Drops
from rllib_wireless.envs.radio_resource.fading import BLOCK_SLOTS, make_fading
from rllib_wireless.envs.radio_resource.slots import Params
from rllib_wireless.envs.sharing import SharingEnv


class RadioResource(SharingEnv):
    """B copies of I access points with J users; action 0 is silence, k serves the k-th of an access point's best users.

    A step is a slot. All access points share the reward sum_j w_j^lambda C_j, where C_j is the rate of user j in the slot
    in bit/s/Hz and w_j its weight before it. An episode begins with a new drop and a warm-up that no statistic counts,
    and is truncated after `episode_slots`; so all copies end together. Observations and masks tell what was measured one
    slot earlier, with all access points on.
    """

    name = "radio_resource"
    duration_unit = "slots"
    gamma = 0.99
    default_episodes = 100

    config: RadioResourceConfig

    def __init__(self, config: RadioResourceConfig, num_envs: int = 1, strict: bool = False) -> None:
        super().__init__(config, num_envs, strict)
        b, n = num_envs, config.num_access_points
        self.agents = tuple(f"ap_{i}" for i in range(n))
        own = _obs_fields(config)
        self._set_fields(own, own)
        self.action_space = gymnasium.spaces.Discrete(config.top_users + 1)
        self.params = _params(config)
        self.drops = Drops(config, num_envs)
        self.network = slots.allocate(b, n, config.num_users, config.top_users)
        self._fading = make_fading(config)
        self._draws = Draws(0, 0, np.zeros(b, np.int64))
        self._seed = self._episode = 0
        self._slot = 0  # since the warm-up began
        self._fading_slot = 0
        self._chosen = np.zeros((b, n), np.int64)
        self._obs = np.zeros((b, n, sum(f.size for f in own)), np.float32)
        self._mask = np.zeros((b, n, config.top_users + 1), np.bool_)
        self._acting = np.zeros((b, n), np.bool_)
        self._reward = np.zeros((b, n), np.float32)
        self._cost = np.zeros((b, n), np.float32)
        self._duration = np.zeros(b, np.float32)
        self._never = np.zeros(b, np.bool_)
        self._always = np.ones(b, np.bool_)

    @property
    def slot(self) -> int:
        """The coming slot of the episode; negative in the warm-up."""
        return self._slot - self.config.warmup_slots

    def reset(self, seed: int = 0) -> EnvStep:
        self._seed, self._episode = seed, 0
        self._begin()
        self._reward[:] = self._duration[:] = 0.0
        return self._step(None)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        chosen = np.ascontiguousarray(actions, np.int64)
        if self.strict:
            self.refuse_illegal(chosen, self._mask)
        slots.choose(self.network, chosen, self._chosen)
        self._transmit(count=True)
        self._duration[:] = 1.0
        if self.slot < self.config.episode_slots:
            return self._step(None)
        final = self.ended(np.arange(self.num_envs), self._with_neighbours(self._obs), self._mask, self._acting)
        self._episode += 1
        self._begin()
        return self._step(final)

    def local_state(self) -> FloatArray:
        """What each access point observes: it knows no more of itself."""
        return self._obs.copy()

    def state(self) -> FloatArray:
        """All observations; there is no global block."""
        return self._obs.reshape(self.num_envs, -1).copy()

    def statistics(self) -> Statistics:
        n = self.network
        counts = {name: n.copy_counts[:, k].copy() for k, name in enumerate(slots.COPY_COUNTS)}
        counts |= {name: n.access_point_counts[:, k].copy() for k, name in enumerate(slots.ACCESS_POINT_COUNTS)}
        return counts | {name: n.user_counts[:, k].copy() for k, name in enumerate(slots.USER_COUNTS)}

    def _begin(self) -> None:
        """A new drop in every copy, and its warm-up."""
        n, config = self.network, self.config
        self._draws = self.drops.begin(self._seed, self._episode)
        self._fading.begin(self._draws, config.num_access_points * config.num_users)
        self._fading_slot = 0
        n.serving[:] = self.drops.serving
        if config.mean_session_slots is not None:
            self._session = self._sessions()
        for counts in (n.user_counts, n.access_point_counts, n.copy_counts):
            counts[:] = 0.0
        slots.begin(self.params, n, self.drops.gain, self._draws.seed, self._draws.counter)
        self._measure()
        self._measure()
        self._slot = 0
        self._arrive()
        for _ in range(config.warmup_slots):
            slots.choose_in_turn(n, self._slot, self._chosen)
            self._transmit(count=False)
        slots.observe(self.params, n, self._obs, self._mask, self._acting)

    def _transmit(self, count: bool) -> None:
        """Let access points transmit to the chosen users, and go on to the next slot."""
        slots.transmit(self.params, self.network, self._chosen, count, self._reward)
        self._measure()
        self._slot += 1
        self._arrive()
        if count:
            slots.observe(self.params, self.network, self._obs, self._mask, self._acting)

    def _measure(self) -> None:
        block = self._fading_slot % BLOCK_SLOTS
        if block == 0:
            if self._fading_slot and self.config.mobility != "static":
                self.drops.move(self._fading_slot * self.config.slot_ms / 1000)
                self.network.serving[:] = self.drops.serving
            self._power = self._fading.advance()
        slots.measure(self.network, self.drops.gain, self._power, block)
        self._fading_slot += 1

    def _arrive(self) -> None:
        """Let users and packets of the coming slot come, and users go."""
        if self.config.mean_session_slots is not None:
            self.network.there[:] = (self._session[..., 0] <= self._slot) & (self._slot < self._session[..., 1])
        if self.config.arrival_rate_hz is not None:
            draws = self._draws
            slots.arrive(self.params, self.network, self._slot, self.slot >= 0, draws.seed, draws.counter)

    def _sessions(self) -> Floats:
        """From when to when each user is there, [B, J, 2], in slots since the warm-up began.

        A session of length S begins at a time uniform over [-S, end], so on average as many users are there at any time.
        """
        config, draws = self.config, self._draws
        mean, end = config.mean_session_slots or 0.0, config.warmup_slots + config.episode_slots
        length = -mean * np.log1p(-draws.uniform(Purpose.SESSION_LENGTH, config.num_users))
        start = draws.uniform(Purpose.SESSION_START, config.num_users) * (length + end) - length
        return np.stack((start, start + length), axis=-1)

    def _step(self, final: FinalStep | None) -> EnvStep:
        return EnvStep(
            obs=self._with_neighbours(self._obs),
            action_mask=self._mask,
            acting=self._acting,
            reward=self._reward,
            cost=self._cost,
            terminated=self._never,
            truncated=self._never if final is None else self._always,
            duration=self._duration,
            final=final,
        )


def _obs_fields(config: RadioResourceConfig) -> tuple[ObsField, ...]:
    """The columns that slots.observe writes, in its order."""
    top, high = config.top_users, float(np.log10(config.max_weight))
    low_sinr, high_sinr = slots.LOW_DB / slots.SCALE_DB, slots.HIGH_DB / slots.SCALE_DB
    sinr = f"SINR in dB / {slots.SCALE_DB:g} of the {top} best users, one slot earlier, all access points on"
    fields = [
        ObsField("sinr", "continuous", top, low_sinr, high_sinr, shared="full", description=sinr),
        ObsField(
            "weight",
            "continuous",
            top,
            slots.LOW_WEIGHT,
            high,
            shared="compressed",
            description="log10 of their weights",
        ),
    ]
    if config.arrival_rate_hz is not None:
        description = f"packets in their queues / {slots.FULL_QUEUE:g}, at most 1"
        fields.append(ObsField("queue", "continuous", top, shared="full", description=description))
    if config.reports == "powers":
        size, high_power = config.num_access_points * top, slots.HIGH_POWER_DB / slots.SCALE_DB
        power = (
            f"power over noise in dB / {slots.SCALE_DB:g} at the {top} best users, one slot earlier: from the first access "
            "point, from the second, and so on"
        )
        fields.append(ObsField("power", "continuous", size, low_sinr, high_power, shared="full", description=power))
    return tuple(fields)


def _params(config: RadioResourceConfig) -> Params:
    return Params(
        averaging=config.averaging_factor,
        fairness_exponent=config.fairness_exponent,
        max_weight=config.max_weight,
        max_log_weight=float(np.log10(config.max_weight)),
        max_rate=np.inf if config.max_rate is None else config.max_rate,
        bits_per_rate=config.bits_per_rate,
        arrivals_per_slot=config.arrivals_per_slot,
        packet_bits=8.0 * config.packet_bytes,
        reports_powers=config.reports == "powers",
    )
