"""How fast channel access is simulated: our simulator and event kernel against plain Python, in CPU time on one thread."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from rllib_wireless.benchmarks import best, row
from rllib_wireless.envs import make_env
from rllib_wireless.envs.channel_access import event_kernel

NUM_STATIONS = 14
COPIES = 1024
TAU = 0.05  # every station's probability of transmitting, near CSMA/CA's


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure simulated slots per second of CPU time.

    Plain Python steps slot by slot, as simulators of this channel do and as the paper's agents act. The second peer, which
    goes from decision to decision as ours does, says how much of the ratio is that. Both are favoured: they have no Poisson
    traffic, no masks and no statistics, and leave observations in lists; the second leaves out the delay penalty, too.

    Args:
        quick: Shorter runs.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    repeats = 3 if quick else 7
    ours = best(_batched(200 if quick else 1000), repeats)
    kernel = best(_kernel, repeats)
    rows = [
        row(f"simulator with observations, {COPIES} copies x {NUM_STATIONS} stations", ours, "slots/s"),
        row("event kernel, CSMA/CA", kernel, "slots/s"),
    ]
    for peer, plain, targets in (
        ("plain Python, slot by slot", PlainSlots, (200.0, 1000.0)),
        ("plain Python, decision by decision", PlainDecisions, (None, None)),
    ):
        theirs = best(partial(_plain, plain, 20_000 if quick else 50_000), repeats)
        with_rule = best(partial(_plain_rule, plain, 20_000 if quick else 50_000), repeats)
        rows += [
            row(f"{peer}, 1 copy", theirs, "slots/s"),
            row(f"{peer}, CSMA/CA", with_rule, "slots/s"),
            row(f"simulator, times {peer}", ours / theirs, "x", targets[0], peer),
            row(f"event kernel, times {peer}", kernel / with_rule, "x", targets[1], f"{peer}, CSMA/CA"),
        ]
    return rows


class PlainChannel(ABC):
    """One saturated channel as one would write it in plain Python; subclasses step it.

    Equal actions give the observations of `channel_access` with its default fields.

    Args:
        num_stations: N.
    """

    packet_slots, difs_slots, alpha = 120, 4, 0.01

    def __init__(self, num_stations: int) -> None:
        self.num_stations = num_stations
        self.time = 0
        self.state = 0  # IDLE, BUSY, SUCCESS, COLLISION
        self.transmitted = [0] * num_stations
        self.last_success = [0] * num_stations

    @property
    @abstractmethod
    def deciding(self) -> bool:
        """Whether stations may transmit in the next step."""

    @abstractmethod
    def step(self, actions: list[int]) -> tuple[list[list[float]], list[float]]:
        """Transmit (1) or defer (0); returns observations and rewards of all stations."""

    def observations(self) -> list[list[float]]:
        """Channel state and previous action one-hot, delay to last transmission as a share, queue share."""
        channel = [float(self.state == k) for k in range(4)]
        return [
            [*channel, 1.0 - sent, float(sent), share, 1.0]
            for sent, share in zip(self.transmitted, self.delay_shares(), strict=True)
        ]

    def delay_shares(self) -> list[float]:
        """Every station's share of the summed delays."""
        delays = [self.time - last for last in self.last_success]
        total = sum(delays) or 1
        return [delay / total for delay in delays]

    def end_busy_period(self) -> float:
        """Note who succeeded; returns what all are rewarded with."""
        success = sum(self.transmitted) == 1
        if success:
            self.last_success[self.transmitted.index(1)] = self.time
        self.state = 2 if success else 3
        return 1.0 if success else -1.0


class PlainSlots(PlainChannel):
    """Every step is a slot, as under `time_step="slot"`."""

    def __init__(self, num_stations: int) -> None:
        super().__init__(num_stations)
        self._busy = 0  # slots left of the busy period
        self._wait = 0  # slots left of DIFS

    @property
    def deciding(self) -> bool:
        return self._busy == 0 and self._wait == 0

    def step(self, actions: list[int]) -> tuple[list[list[float]], list[float]]:
        if self.deciding:
            self.transmitted, self.state = actions, 0
            if any(actions):
                self.state, self._busy, self._wait = 1, self.packet_slots, self.difs_slots
        rewards = [-self.alpha * share for share in self.delay_shares()]
        self.time += 1
        if self._busy:
            self._busy -= 1
            if self._busy == 0:
                event = self.end_busy_period()
                rewards = [reward + event for reward in rewards]
        elif self._wait:
            self._wait -= 1
        return self.observations(), rewards


class PlainDecisions(PlainChannel):
    """Every step is a decision and the busy period that follows; rewards are those of `alpha=0`."""

    @property
    def deciding(self) -> bool:
        return True

    def step(self, actions: list[int]) -> tuple[list[list[float]], list[float]]:
        self.transmitted = actions
        if any(actions):
            self.time += self.packet_slots
            reward = self.end_busy_period()
            self.time += self.difs_slots
        else:
            self.time += 1
            self.state, reward = 0, 0.0
        return self.observations(), [reward] * self.num_stations


class PlainCsmaCa:
    """CSMA/CA in plain Python: counters that run down in idle slots.

    Args:
        num_stations: N.
        cw_min: Smallest contention window.
        cw_max: Largest contention window.
        seed: Seed.
    """

    def __init__(self, num_stations: int, cw_min: int = 7, cw_max: int = 1023, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._cw_min, self._cw_max = cw_min, cw_max
        self._window = [cw_min] * num_stations
        self._counter = [self._random.randint(0, cw_min) for _ in range(num_stations)]

    def act(self) -> list[int]:
        """Who sends in this decision slot; those draw anew once they know the `outcome`."""
        return [int(counter == 0) for counter in self._counter]

    def count_down(self) -> None:
        """An idle slot has passed."""
        self._counter = [counter - 1 for counter in self._counter]

    def draw(self, senders: list[int], success: bool) -> None:
        """A busy period has ended."""
        for i, sent in enumerate(senders):
            if sent:
                self._window[i] = self._cw_min if success else min(2 * self._window[i] + 1, self._cw_max)
                self._counter[i] = self._random.randint(0, self._window[i])


def simulate_plain(env: PlainChannel, rule: PlainCsmaCa, steps: int) -> dict[str, int]:
    """Run CSMA/CA in plain Python; returns slots, successes and collisions."""
    counts = {"slots": 0, "successes": 0, "collisions": 0}
    idle = [0] * env.num_stations
    heard = 0
    for _ in range(steps):
        actions = rule.act() if env.deciding else idle
        env.step(actions)
        if env.state == 0:
            rule.count_down()
        elif env.state != 1 and (heard == 1 or any(actions)):  # a busy period has just ended
            counts["successes" if env.state == 2 else "collisions"] += 1
            rule.draw(env.transmitted, success=env.state == 2)
        heard = env.state
    counts["slots"] = env.time
    return counts


def _batched(steps: int) -> Callable[[], float]:
    env = make_env("channel_access", COPIES, num_stations=NUM_STATIONS, episode_slots=None)
    actions = np.random.default_rng(0).random((64, COPIES, NUM_STATIONS)) < TAU
    chosen = actions.astype(np.int64)
    env.reset()

    def work() -> float:
        slots = 0.0
        for t in range(steps):
            slots += float(env.step(chosen[t % len(chosen)]).duration.sum())
        return slots

    return work


def _kernel() -> float:
    statistics = event_kernel.simulate("csma_ca", {"num_stations": NUM_STATIONS}, busy_periods=2_000, num_envs=256)
    return float(statistics["slots"].sum())


def _plain(plain: type[PlainChannel], steps: int) -> float:
    env = plain(NUM_STATIONS)
    actions = (np.random.default_rng(0).random((1000, NUM_STATIONS)) < TAU).astype(int).tolist()
    for t in range(steps):
        env.step(actions[t % len(actions)])
    return float(env.time)


def _plain_rule(plain: type[PlainChannel], steps: int) -> float:
    return float(simulate_plain(plain(NUM_STATIONS), PlainCsmaCa(NUM_STATIONS), steps)["slots"])
