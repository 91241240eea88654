"""Production scheduling as a BatchedEnv: B copies of a plant whose units route products to where they can be worked on."""

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
from rllib_wireless.envs.production_scheduling import floor, tables
from rllib_wireless.envs.production_scheduling.config import ProductionSchedulingConfig
from rllib_wireless.envs.production_scheduling.plants import Plant, plant_of
from rllib_wireless.envs.production_scheduling.show import observe
from rllib_wireless.envs.production_scheduling.tables import Rules, View
from rllib_wireless.envs.sharing import SharingEnv, SharingView


class ProductionScheduling(SharingEnv):
    """B copies of a plant of N units; action 0 defers, action a moves the product along the unit's link a.

    A unit decides when it holds a product that is free and whose next operation it cannot do. The reward of a decision is minus
    the time until the unit sees the product again, else until it is finished, and is spread over that time. Each product is a
    stream of its own.

    Attributes:
        plant: The plant.
        kinds: Kind of each product.
        rules: Plant and configuration, for compiled code.
    """

    name = "production_scheduling"
    duration_unit = "ticks"
    gamma = 0.9996  # .99 a decision, as in related code: under uniform routing the next one comes after 28 ticks in the mean
    default_episodes = 256

    config: ProductionSchedulingConfig

    def __init__(self, config: ProductionSchedulingConfig, num_envs: int = 1, strict: bool = False) -> None:
        super().__init__(config, num_envs, strict)
        self.plant, self.kinds = plant_of(config), config.product_kinds
        n, p = self.plant.num_units, len(self.kinds)
        self.agents = tuple(f"unit_{i}" for i in range(n))
        self.num_streams = p
        self.links = tuple(self.plant.links)
        own = _local_fields(p, self.plant.num_operations)
        self._set_fields(own, own)
        self.rules = _rules(config, self.plant, self.view)
        num_actions = self.rules.neighbours.shape[1]
        self.action_space = gymnasium.spaces.Discrete(num_actions)
        self._floor = tables.allocate(num_envs, n, p)
        local = np.broadcast_to(self.rules.blocks[-1, 0], (num_envs, n, self.rules.blocks.shape[-1])).copy()
        self._obs = np.concatenate([local, self.view.observe(local.reshape(num_envs, -1))], axis=-1)
        self._shown = View(
            local=local.reshape(num_envs, -1),
            obs=self._obs.reshape(num_envs, -1),
            mask=np.broadcast_to(np.arange(num_actions) == 0, (num_envs, n, num_actions)).copy(),
            acting=np.zeros((num_envs, n), np.bool_),
            stream=np.zeros((num_envs, n), np.int64),
            decided=np.full((num_envs, p), -1, np.int64),
        )
        self._cost = np.zeros((num_envs, n), np.float32)
        self._never = np.zeros(num_envs, np.bool_)
        self._copies = np.arange(num_envs)

    @property
    def time(self) -> IntArray:
        """Ticks since the episode began, [B]."""
        return self._floor.copies[:, tables.TIME]

    @property
    def where(self) -> IntArray:
        """The unit that each product is in or on its way to, [B, P]; -1 before its supply, -2 when it is finished."""
        return self._floor.products[:, tables.WHERE]

    @property
    def until(self) -> IntArray:
        """When each product is free again, [B, P], in ticks."""
        return self._floor.products[:, tables.UNTIL]

    @property
    def done(self) -> IntArray:
        """Operations of each product that have begun, [B, P]."""
        return self._floor.products[:, tables.DONE]

    @property
    def holds(self) -> IntArray:
        """The product in each unit, or on its way there, [B, N]; -1 for none."""
        return self._floor.holds

    def reset(self, seed: int = 0) -> EnvStep:
        self.rules = self.rules._replace(seed=seed)
        self._floor.copies[:, [tables.STEPS, tables.SUPPLIES]] = 0
        for array in (self._floor.stream_reward, self._floor.reward, self._floor.duration):
            array[:] = 0.0
        self._floor.stream_done[:] = False
        self._begin(self._copies)
        return self._show(self._never, self._never, None)

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        chosen = np.ascontiguousarray(actions, np.int64)
        if self.strict:
            self.refuse_illegal(chosen, self._shown.mask)
        floor.advance(self.rules, self._floor, chosen)
        terminated = self._floor.counts[:, tables.NUM_FINISHED] == self.num_streams
        truncated = ~terminated & (self._floor.copies[:, tables.MADE] >= self.config.max_decisions)
        final = None
        observe(self.rules, self._floor, self._shown, self._copies)
        if (ended := np.flatnonzero(terminated | truncated)).size:
            self._count_ended(ended, truncated)
            final = self._final(ended)
            self._begin(ended)
        return self._show(terminated, truncated, final)

    def local_state(self) -> FloatArray:
        """Whether there is a product, which one, and what remains to be done on it."""
        return self._local_state(self._copies)

    def state(self) -> FloatArray:
        """The blocks of local state, then by product the share of its operations that have begun; 1 when it is finished."""
        return self._state(self._copies)

    def statistics(self) -> Statistics:
        return {name: value.copy() for name, value in self._sums().items()}

    def _sums(self) -> Statistics:
        per_copy = {name: self._floor.counts[:, k] for k, name in enumerate(tables.COPY_COUNTS)}
        per_unit = {name: self._floor.unit_counts[:, k] for k, name in enumerate(tables.UNIT_COUNTS)}
        return per_copy | per_unit

    def _local_state(self, copies: IntArray) -> FloatArray:
        return self._shown.local[copies].reshape(len(copies), len(self.agents), -1)

    def _state(self, copies: IntArray) -> FloatArray:
        begun = (self.done[copies] / self.rules.lengths).astype(np.float32)
        return np.concatenate([self._shown.local[copies], begun], axis=1)

    def _begin(self, copies: IntArray) -> None:
        floor.begin(self.rules, self._floor, copies)
        observe(self.rules, self._floor, self._shown, copies)

    def _count_ended(self, copies: IntArray, truncated: BoolArray) -> None:
        counts = self._floor.counts
        counts[copies, tables.ENDED] = 1.0
        counts[copies, tables.LIVELOCKS] = truncated[copies]
        counts[copies, tables.END_TICKS] = self.time[copies]
        counts[copies, tables.END_PRODUCTS] = self.num_streams
        counts[copies, tables.END_FINISHED] = counts[copies, tables.NUM_FINISHED]
        counts[copies, tables.END_DECISIONS] = self._floor.copies[copies, tables.MADE]

    def _show(self, terminated: BoolArray, truncated: BoolArray, final: FinalStep | None) -> EnvStep:
        shown, several = self._shown, self.num_streams > 1
        return EnvStep(
            obs=self._obs,
            action_mask=shown.mask,
            acting=shown.acting,
            reward=self._floor.reward,
            cost=self._cost,
            terminated=terminated,
            truncated=truncated,
            duration=self._floor.duration,
            final=final,
            stream=shown.stream if several else None,
            stream_reward=self._floor.stream_reward if several else None,
            stream_done=self._floor.stream_done if several else None,
        )

    def _final(self, copies: IntArray) -> FinalStep:
        return FinalStep(
            copies=copies,
            obs=self._obs[copies],
            action_mask=self._shown.mask[copies],
            acting=self._shown.acting[copies],
            local_state=self._local_state(copies),
            state=self._state(copies),
            statistics={name: value[copies] for name, value in self._sums().items()},
            stream=self._shown.stream[copies] if self.num_streams > 1 else None,
        )


def _local_fields(products: int, operations: int) -> tuple[ObsField, ...]:
    """The columns of `_blocks`."""
    remaining = "by operation: 1 if it is the product's next, less if it comes later, 0 if the product does not need it"
    return (
        ObsField(
            "busy", "continuous", shared="compressed", description="whether there is a product, or one on its way"
        ),
        ObsField("product", "categorical", 1 + products, shared="full", description="none, or which product it is"),
        ObsField("remaining", "continuous", operations, shared="full", description=remaining),
    )


def _blocks(sequences: list[tuple[int, ...]], operations: int) -> FloatArray:
    """Local states [P + 1, longest + 1, L] of a unit, by product and operations begun; the last product is none."""
    num_products = len(sequences)
    blocks = np.zeros((num_products + 1, max(map(len, sequences)) + 1, 2 + num_products + operations), np.float32)
    blocks[-1, :, 1] = 1.0
    for p, sequence in enumerate(sequences):
        blocks[p, :, [0, 2 + p]] = 1.0
        for done in range(len(sequence)):
            # Backwards, so that of an operation that comes twice the next one counts.
            for k in range(len(sequence) - 1, done - 1, -1):
                blocks[p, done, 2 + num_products + sequence[k]] = (len(sequence) - k + done) / len(sequence)
    return blocks


def _places(neighbours: IntArray, width: int) -> tuple[IntArray, IntArray]:
    """Where each column of the flattened local states is shown, for compiled code that writes what changes only.

    Args:
        neighbours: `SharingView.source`, [N, D].
        width: L.

    Returns:
        starts [N * L + 1] and places: column c is shown in places[starts[c] : starts[c + 1]] of the flattened observations.
    """
    n = len(neighbours)
    flat = np.concatenate([np.arange(n * width).reshape(n, width), neighbours], axis=1).ravel()
    places: IntArray = np.argsort(flat, kind="stable")
    return np.searchsorted(flat[places], np.arange(n * width + 1)), places


def _rules(config: ProductionSchedulingConfig, plant: Plant, view: SharingView) -> Rules:
    chosen = [plant.products[kind] for kind in config.product_kinds]
    lengths = np.array([len(sequence) for sequence in chosen])
    sequences = np.full((len(chosen), int(lengths.max())), -1, np.int64)
    for row, sequence in zip(sequences, chosen, strict=True):
        row[: len(sequence)] = sequence
    ticks = plant.ticks()
    blocks = _blocks(chosen, plant.num_operations)
    starts, places = _places(view.source, blocks.shape[-1])
    return Rules(
        neighbours=plant.neighbours(),
        ticks=ticks,
        sequences=sequences,
        lengths=lengths,
        suppliers=np.flatnonzero(ticks[:, plant.supply]),
        move_ticks=plant.move_ticks,
        defer_ticks=plant.defer_ticks,
        serial=config.clock == "serial",
        forced_defer=config.defer == "forced",
        until_episode=config.reward_until == "episode",
        bonus=config.operation_bonus,
        penalty=config.defer_penalty,
        blocks=blocks,
        starts=starts,
        places=places,
        seed=0,
    )
