"""How fast a production plant is simulated: our simulator against plain Python, in CPU time on one thread."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from rllib_wireless.benchmarks import best, row
from rllib_wireless.envs import StepRandom, make_env, make_policy
from rllib_wireless.envs.production_scheduling.config import ProductionSchedulingConfig
from rllib_wireless.envs.production_scheduling.plants import Plant, plant_of

COPIES = 1024
KINDS = ("A", "B", "C")
_PEER = "plain Python, tick by tick, 1 copy"


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure decisions per second of CPU time, of uniform policies in the 4x5 plant with three products.

    Both make the observations of all units after every step. Plain Python goes from tick to tick, as the published simulator
    does; it keeps no statistics and no rewards, and so is favoured. Ours is measured with prepared actions, of which as many
    are legal as the uniform policy's, and once more with the policy in the loop.

    Args:
        quick: Shorter runs.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    repeats = 3 if quick else 7
    ours = best(_batched(100 if quick else 400), repeats)
    with_policy = best(_with_policy(100 if quick else 400), repeats)
    plain = best(partial(_plain, 2_000 if quick else 10_000), repeats)
    return [
        row(f"simulator, {COPIES} copies", ours, "decisions/s"),
        row(f"simulator and policy, {COPIES} copies", with_policy, "decisions/s"),
        row(_PEER, plain, "decisions/s"),
        row("simulator, times plain Python", ours / plain, "x", 100.0, _PEER),
    ]


class Draws(Protocol):
    """The random choices of a plant."""

    def supply(self, unit: int, number: int) -> int:
        """Which of a number of waiting products a unit supplies next."""

    def contest(self, products: list[int]) -> int:
        """Which of several products gets to the unit that all are to go to."""


class PythonDraws:
    """Choices of Python's own generator."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def supply(self, unit: int, number: int) -> int:
        return self._random.randrange(number)

    def contest(self, products: list[int]) -> int:
        return self._random.choice(products)


@dataclass
class Product:
    """A product in plain Python."""

    sequence: tuple[int, ...]
    unit: int | None = None  # that holds it
    free_at: int = 0
    remaining: list[int] = field(default_factory=list)
    finished_at: int | None = None


class PlainPlant:
    """One plant as one would write it in plain Python, on either clock; equal choices give what `production_scheduling` does.

    Args:
        plant: The plant.
        kinds: Kind of each product.
        draws: Its random choices.
        serial: Whether units take turns.
        radius: Units so many links away are observed.
        full: Whether products of other units are observed, or only whether there are any.

    Attributes:
        seen: (time, unit, product) when a unit held a free product.
        decided: (time, unit, product) when it decided about one.
    """

    def __init__(
        self,
        plant: Plant,
        kinds: tuple[str, ...],
        draws: Draws,
        serial: bool = False,
        radius: int = 1,
        full: bool = False,
    ) -> None:
        self.plant, self.draws, self.serial, self.full = plant, draws, serial, full
        self.links = plant.neighbours().tolist()
        self.abilities = [plant.abilities.get(i, {}) for i in range(plant.num_units)]
        self.balls = [self._ball(i, radius) for i in range(plant.num_units)]
        self.kinds = kinds
        self.begin()

    def begin(self) -> None:
        """Begin an episode."""
        self.time, self.turn = 0, 0
        self.products = [Product(s, remaining=list(s)) for s in (self.plant.products[kind] for kind in self.kinds)]
        self.held: list[int | None] = [None] * self.plant.num_units
        self.seen: list[tuple[int, int, int]] = []
        self.decided: list[tuple[int, int, int]] = []
        self._advance()

    @property
    def ended(self) -> bool:
        return all(product.finished_at is not None for product in self.products)

    def deciding(self) -> dict[int, int]:
        """The units that decide now, and about which product."""
        units = [self.turn] if self.serial else range(self.plant.num_units)
        return {i: p for i in units if (p := self.held[i]) is not None and self.products[p].free_at <= self.time}

    def legal(self, unit: int) -> list[int]:
        """The actions that a deciding unit has."""
        moves = [a for a, j in enumerate(self.links[unit]) if j >= 0 and self.held[j] is None]
        return [0, *moves]

    def step(self, actions: dict[int, int]) -> list[list[float]]:
        """Execute the legal actions of the units that decide; returns observations of all units."""
        wishes: dict[int, list[int]] = {}
        for i, p in self.deciding().items():
            self.decided.append((self.time, i, p))
            if actions[i]:
                wishes.setdefault(self.links[i][actions[i]], []).append(p)
            self.products[p].free_at = self.time + self.plant.defer_ticks
        for j, rivals in wishes.items():
            p = rivals[0] if len(rivals) == 1 else self.draws.contest(rivals)
            origin = self.products[p].unit
            assert origin is not None
            self.held[origin], self.held[j] = None, p
            self.products[p].unit, self.products[p].free_at = j, self.time + self.plant.move_ticks
        if self.serial:
            self._next_turn(1)
        self._advance()
        return self.observations()

    def observations(self) -> list[list[float]]:
        """What all units see: own product and what remains to be done, then what others show."""
        blocks = [self._block(i) for i in range(self.plant.num_units)]
        width = 1 + max(len(ball) for ball in self.balls)
        shown = len(blocks[0]) if self.full else 1
        observations = []
        for ball in self.balls:
            own = list(blocks[ball[0]])
            for j in ball[1:]:
                own += [1.0, *blocks[j][:shown]]
            own += [0.0] * ((1 + shown) * (width - 1 - len(ball)))
            observations.append(own)
        return observations

    def _block(self, i: int) -> list[float]:
        p = self.held[i]
        which = [0.0] * (1 + len(self.products))
        which[0 if p is None else 1 + p] = 1.0
        remaining = [0.0] * self.plant.num_operations
        if p is not None:
            product = self.products[p]
            for order, operation in enumerate(product.remaining):
                if remaining[operation] == 0.0:
                    remaining[operation] = (len(product.sequence) - order) / len(product.sequence)
        return [float(p is not None), *which, *remaining]

    def _ball(self, i: int, radius: int) -> list[int]:
        """Units within a radius by breadth-first search, ordered by distance and index."""
        distance, queue = {i: 0}, deque([i])
        while queue:
            j = queue.popleft()
            for k in self.links[j]:
                if k >= 0 and k not in distance and distance[j] < radius:
                    distance[k] = distance[j] + 1
                    queue.append(k)
        return sorted(distance, key=lambda j: (distance[j], j))

    def _advance(self) -> None:
        """Go on tick by tick, or turn by turn, until a unit decides."""
        if self.serial:
            while not self.ended:
                ticks = self._take_turn(self.turn)
                if ticks is None:
                    return
                self._next_turn(ticks)
            return
        for i in range(self.plant.num_units):
            self._supply(i)
        while not self.ended:
            self.time += 1
            self._remove()
            free = [i for i, p in enumerate(self.held) if p is not None and self.products[p].free_at == self.time]
            waiting = [i for i in free if not self._work(i)]
            if waiting:
                return

    def _take_turn(self, i: int) -> int | None:
        """Ticks that a unit's turn takes; None if it decides."""
        p = self.held[i]
        if p is None:
            return int(self._supply(i))
        return 1 if self.products[p].free_at > self.time or self._work(i) else None

    def _next_turn(self, ticks: int) -> None:
        self.time += ticks
        self.turn = (self.turn + 1) % self.plant.num_units
        self._remove()

    def _supply(self, i: int) -> bool:
        waiting = [p for p, product in enumerate(self.products) if product.unit is None and product.finished_at is None]
        if self.held[i] is not None or self.plant.supply not in self.abilities[i] or not waiting:
            return False
        p = waiting[self.draws.supply(i, len(waiting))]
        self.held[i], self.products[p].unit = p, i
        self._begin_operation(p, i)
        return True

    def _work(self, i: int) -> bool:
        """Begin the next operation on the free product of a unit, if it can do it."""
        p = self.held[i]
        assert p is not None
        self.seen.append((self.time, i, p))
        if self.products[p].remaining[0] not in self.abilities[i]:
            return False
        self._begin_operation(p, i)
        return True

    def _begin_operation(self, p: int, i: int) -> None:
        product = self.products[p]
        product.free_at = self.time + self.abilities[i][product.remaining.pop(0)]

    def _remove(self) -> None:
        for product in self.products:
            if product.unit is not None and not product.remaining and product.free_at <= self.time:
                self.held[product.unit], product.unit, product.finished_at = None, None, self.time


def _batched(steps: int) -> Callable[[], float]:
    """Steps with actions that a uniform policy took from the same start, so that they are legal."""
    env = make_env("production_scheduling", COPIES, products=",".join(KINDS))
    policy, draws = make_policy("uniform", env), StepRandom(0, COPIES, len(env.agents))
    step, actions, decisions = env.reset(0), [], 0
    for _ in range(steps):
        decisions += int(step.acting.sum())
        actions.append(policy.act(step, draws))
        draws.advance()
        step = env.step(actions[-1])

    def work() -> float:
        env.reset(0)
        for chosen in actions:
            env.step(chosen)
        return float(decisions)

    return work


def _with_policy(steps: int) -> Callable[[], float]:
    env = make_env("production_scheduling", COPIES, products=",".join(KINDS))
    policy = make_policy("uniform", env)

    def work() -> float:
        draws, step, decisions = StepRandom(0, COPIES, len(env.agents)), env.reset(0), 0
        for _ in range(steps):
            decisions += int(np.count_nonzero(step.acting))
            step = env.step(policy.act(step, draws))
            draws.advance()
        return float(decisions)

    return work


def _plain(steps: int) -> float:
    plant = plant_of(ProductionSchedulingConfig())
    env, draw, decisions = PlainPlant(plant, KINDS, PythonDraws()), random.Random(0), 0
    for _ in range(steps):
        actions = {i: draw.choice(env.legal(i)) for i in env.deciding()}
        decisions += len(actions)
        env.step(actions)
        if env.ended:
            env.begin()
    return float(decisions)
