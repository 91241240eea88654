"""Rules of the MAC layer: EDCA's access categories and CSMA/CA (one binary exponential backoff), CSMA/ECA, TDMA."""

from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.envs import random
from rllib_wireless.envs.base import EnvStep, IntArray
from rllib_wireless.envs.channel_access.channel import COLLISION, SUCCESS
from rllib_wireless.envs.channel_access.simulator import ChannelAccess
from rllib_wireless.envs.policy import Policy, RoundRobin
from rllib_wireless.envs.random import StepRandom, jit
from rllib_wireless.errors import ConfigError

Window = Annotated[int, Field(ge=0, le=65535)]

_BACKOFF = 2  # purpose of the random numbers


@dataclass(frozen=True, config=CONFIG)
class BackoffConfig(Configuration):
    """Contention windows of CSMA/CA; a list gives every station its own."""

    owner: ClassVar[str] = "backoff rule"

    cw_min: Window | tuple[Window, ...] = field(
        7, "Contention window of the first attempt.", unit="slots", source="section 5.1"
    )
    cw_max: Window | tuple[Window, ...] = field(
        1023, "Largest contention window; doubled after every collision up to it.", unit="slots", source="section 5.1"
    )


@dataclass(frozen=True, config=CONFIG)
class NoConfig(Configuration):
    """A rule without parameters."""

    owner: ClassVar[str] = "tdma"


class CsmaCa(Policy):
    """Binary exponential backoff: a counter drawn from {0, ..., CW} runs down in idle slots; at zero the station sends.

    CW = min((cw_min + 1) * 2**stage - 1, cw_max), where the stage counts the collisions of the packet at the head of the
    queue. A station draws anew after each of its own transmissions. With an empty queue it counts down to zero and then sends
    the next packet at once (post-backoff of 802.11), unless that packet finds the channel busy: then it draws anew.
    """

    deterministic_after_success: ClassVar[bool] = False

    def __init__(self, env: ChannelAccess, config: BackoffConfig) -> None:
        self._env = env
        self._cw_min, self._cw_max = windows(config, len(env.agents))
        shape = (env.num_envs, len(env.agents))
        self._counter = np.zeros(shape, np.int64)
        self._draws = np.zeros(shape, np.int64)
        self._fresh = np.ones(env.num_envs, np.bool_)
        self._had_packet = np.zeros(shape, np.bool_)

    def reset(self, copies: IntArray) -> None:
        self._fresh[copies] = True

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        env = self._env
        actions = np.empty(step.acting.shape, np.int64)
        _count_down(
            self._counter, self._draws, self._fresh, self._had_packet, actions, step.acting, env.queue, env.outcome,
            env.idle_slots, env.sending, env.retries, self._cw_min, self._cw_max, env.config.lowest_backoff, env.config.countdown == "bianchi",
            self.deterministic_after_success, random.seed,
        )  # fmt: skip
        return actions


class CsmaEca(CsmaCa):
    """CSMA/ECA: as CSMA/CA, but after a success the backoff is V = floor(cw_min / 2), which leads to a collision-free cycle."""

    deterministic_after_success = True


class Tdma(RoundRobin):
    """Perfect round robin over the stations that have a packet; an upper bound, since it needs a scheduler."""

    privileged = True

    def __init__(self, env: ChannelAccess, config: NoConfig) -> None:
        super().__init__(env.num_envs)


def windows(config: BackoffConfig, n: int) -> tuple[IntArray, IntArray]:
    """Smallest and largest contention window of each of n stations.

    Raises:
        ConfigError: At a list of another length, or where the largest is below the smallest.
    """
    per_station = []
    for name in ("cw_min", "cw_max"):
        value = getattr(config, name)
        if isinstance(value, tuple) and len(value) != n:
            raise ConfigError(config.owner, name, value, f"it should be one number or {n} of them, one per station")
        per_station.append(np.broadcast_to(np.asarray(value, np.int64), n).copy())
    cw_min, cw_max = per_station
    if (cw_max < cw_min).any():
        raise ConfigError(config.owner, "cw_max", config.cw_max, f"it should be at least cw_min = {config.cw_min}")
    return cw_min, cw_max


@jit
def draw_backoff(stage: int, cw_min: int, cw_max: int, lowest: int, seed: int, b: int, i: int, draw: int) -> int:
    """Station i's backoff number `draw` in copy b, uniform over {lowest, ..., CW} after `stage` collisions."""
    cw = cw_max if stage > 16 else min((cw_min + 1) * 2**stage - 1, cw_max)
    return min(lowest, cw) + random.randint(cw + 1 - min(lowest, cw), seed, b, i, _BACKOFF, draw)


@jit
def _count_down(
    counter: IntArray,
    draws: IntArray,
    fresh: npt.NDArray[np.bool_],
    had_packet: npt.NDArray[np.bool_],
    actions: IntArray,
    acting: npt.NDArray[np.bool_],
    queue: IntArray,
    outcome: IntArray,
    idle_slots: IntArray,
    sending: IntArray,
    retries: IntArray,
    cw_min: IntArray,
    cw_max: IntArray,
    lowest: int,
    bianchi: bool,
    deterministic: bool,
    seed: int,
) -> None:
    for b in range(counter.shape[0]):
        ended = outcome[b] == SUCCESS or outcome[b] == COLLISION
        was_busy = idle_slots[b] == 0
        deciding = acting[b].any() or not was_busy
        for i in range(counter.shape[1]):
            # A packet that finds the channel busy may not go at once, even where the post-backoff has run out.
            found_busy = was_busy and acting[b, i] and not had_packet[b, i] and not sending[b, i] and counter[b, i] == 0
            if deciding:
                had_packet[b, i] = queue[b, i] > 0
            if fresh[b] or (ended and sending[b, i]) or found_busy:
                if deterministic and not fresh[b] and not found_busy and outcome[b] == SUCCESS:
                    counter[b, i] = cw_min[i] // 2
                else:
                    counter[b, i] = draw_backoff(retries[b, i], cw_min[i], cw_max[i], lowest, seed, b, i, draws[b, i])
                    draws[b, i] += 1
            elif ended and bianchi:
                counter[b, i] = max(counter[b, i] - 1, 0)
            counter[b, i] = max(counter[b, i] - idle_slots[b], 0)
            actions[b, i] = acting[b, i] and counter[b, i] == 0
        fresh[b] = False
