"""Rules that decide for all access points together: ITLinQ on what was measured, and a genie that knows the channel."""

from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.envs.base import BoolArray, EnvStep, IntArray
from rllib_wireless.envs.policy import Policy, pick
from rllib_wireless.envs.radio_resource.draws import Floats
from rllib_wireless.envs.radio_resource.simulator import RadioResource
from rllib_wireless.envs.radio_resource.slots import Params, link_rate, weight
from rllib_wireless.envs.random import StepRandom, jit

_TUNED = "tuned on validation drops; 25 dB and .5 in related code"


@dataclass(frozen=True, config=CONFIG)
class ItlinqConfig(Configuration):
    """When interference counts as weak: at most margin * SNR^exponent, all over noise."""

    owner: ClassVar[str] = "itlinq"

    margin_db: float = field(10.0, "Margin M.", unit="dB", source=_TUNED, ge=-100.0, le=200.0)
    exponent: float = field(0.3, "Exponent eta.", source=_TUNED, ge=0.0, le=2.0)
    epsilon: float = field(
        0.0, "Share of decisions that are uniform over the legal actions instead, for logs that show alternatives.",
        ge=0.0, le=1.0,
    )  # fmt: skip


class Itlinq(Policy):
    """Information-theoretic link scheduling (Naderializadeh & Avestimehr, IEEE JSAC 2014), in order of PF ratio.

    Each access point stands for the link to its best user. The link with the largest PF ratio is on; each next one is on
    if the interference that it takes from every link that is on, and that it gives to it, is at most
    margin * SNR^exponent of its own. Powers are those of the slot before. With `epsilon` access points explore, each by itself.
    """

    def __init__(self, env: RadioResource, config: ItlinqConfig) -> None:
        self._env = env
        self._margin, self._exponent = 10 ** (config.margin_db / 10), config.exponent
        self._epsilon = config.epsilon

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        n = self._env.network
        actions = np.zeros(step.acting.shape, np.int64)
        _weak_interference(n.measured, n.ranked, n.ratio, self._margin, self._exponent, actions)
        if self._epsilon > 0.0:
            draw = random.uniform() / self._epsilon
            actions = np.where(draw < 1.0, pick(step.action_mask, draw)[0], actions)
        return actions


@dataclass(frozen=True, config=CONFIG)
class GenieConfig(Configuration):
    """How the genie searches."""

    owner: ClassVar[str] = "genie"

    exhaustive_up_to: int = field(
        10,
        "Access points up to which all on-off patterns are tried; beyond, patterns are improved one by one.",
        ge=0,
        le=16,
    )
    delayed: bool = field(False, "Whether it knows all channels as they were in the slot before, not as they will be.")


class Genie(Policy):
    """Maximises the reward of the coming slot, knowing its channel: an upper reference for myopic scheduling.

    Interference depends on who transmits, not to whom. So, given which access points are on, each serves its best user,
    and only the 2^I patterns have to be searched, not the (N + 1)^I joint actions. Beyond `exhaustive_up_to` access points
    the search begins with all on, and again with none, and switches the one that gains most until none gains: the better of
    two local optima.
    """

    privileged = True

    def __init__(self, env: RadioResource, config: GenieConfig) -> None:
        self._env = env
        self._exhaustive = env.config.num_access_points <= config.exhaustive_up_to
        self._delayed = config.delayed

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        n = self._env.network
        actions = np.zeros(step.acting.shape, np.int64)
        known = n.measured if self._delayed else n.received
        _maximise(self._env.params, known, n.average, n.queue, n.ranked, self._exhaustive, actions)
        return actions


@jit
def _weak_interference(
    measured: Floats, ranked: IntArray, ratio: Floats, margin: float, exponent: float, actions: IntArray
) -> None:
    num_envs, access_points, _ = ranked.shape
    done = np.empty(access_points, np.bool_)
    for b in range(num_envs):
        done[:] = False
        while True:
            i = -1
            for k in range(access_points):
                if not done[k] and ranked[b, k, 0] >= 0 and (i < 0 or ratio[b, k, 0] > ratio[b, i, 0]):
                    i = k
            if i < 0:
                break
            done[i] = True
            j = ranked[b, i, 0]
            bound = margin * measured[b, i, j] ** exponent
            weak = True
            for k in range(access_points):
                if actions[b, k] == 1:
                    taken, given = measured[b, k, j], measured[b, i, ranked[b, k, 0]]
                    weak = weak and max(taken, given) <= bound
            actions[b, i] = 1 if weak else 0


@jit
def _maximise(
    p: Params, received: Floats, average: Floats, queue: Floats, ranked: IntArray, exhaustive: bool, actions: IntArray
) -> None:
    num_envs, access_points, _ = received.shape
    on = np.zeros(access_points, np.bool_)
    chosen = np.zeros(access_points, np.int64)
    for b in range(num_envs):
        network = (received[b], average[b], queue[b], ranked[b])
        best = 0.0
        if exhaustive:
            for pattern in range(1, 2**access_points):
                for i in range(access_points):
                    on[i] = (pattern >> i) & 1
                value = _best_users(p, *network, on, chosen)
                if value > best:
                    best = value
                    actions[b] = chosen
            continue
        for start in (True, False):
            on[:] = start
            value = _climb(p, *network, on, chosen)
            if value > best:
                best = value
                actions[b] = chosen


@jit
def _climb(
    p: Params, received: Floats, average: Floats, queue: Floats, ranked: IntArray, on: BoolArray, chosen: IntArray
) -> float:
    """Switch the access point that gains most until none gains; fills the actions then chosen, returns their reward."""
    best = _best_users(p, received, average, queue, ranked, on, chosen)
    while True:
        switch = -1
        for i in range(on.size):
            on[i] = not on[i]
            value = _best_users(p, received, average, queue, ranked, on, chosen)
            on[i] = not on[i]
            if value > best:
                best, switch = value, i
        if switch < 0:
            return _best_users(p, received, average, queue, ranked, on, chosen)
        on[switch] = not on[switch]


@jit
def _best_users(
    p: Params, received: Floats, average: Floats, queue: Floats, ranked: IntArray, on: BoolArray, chosen: IntArray
) -> float:
    """The best action of each access point if these are on, and the reward that they bring."""
    total = 0.0
    for i in range(on.size):
        chosen[i] = 0
        best = 0.0
        if on[i]:
            for k in range(ranked.shape[1]):
                j = ranked[i, k]
                if j < 0:
                    break
                interference = 0.0
                for other in range(on.size):
                    if other != i and on[other]:
                        interference += received[other, j]
                rate = link_rate(p, received[i, j] / (1.0 + interference), queue[j])
                value = weight(p, average[j]) ** p.fairness_exponent * rate
                if value > best:
                    best = value
                    chosen[i] = k + 1
        total += best
    return total
