"""The one interface every simulator implements: B copies of an N-agent game, stepped together as arrays."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
import numpy.typing as npt

from rllib_wireless.configuration import Configuration
from rllib_wireless.errors import UserError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Statistics = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ObsField:
    """One field of an agent's observation; world models, normalisers, sharing views and docs read the same list.

    Args:
        name: The field's name.
        kind: A `categorical` field takes `size` columns and is one-hot; a `continuous` one takes `size` columns.
        size: Number of categories, or of continuous values.
        low: Smallest continuous value.
        high: Largest continuous value.
        shared: Whether neighbours see it on a sharing graph: in the `full` view only, in the `compressed` one too, or never.
        common: Whether all agents see the same value: an event that everybody hears.
        description: What it is, with its unit.
    """

    name: str
    kind: Literal["categorical", "continuous"]
    size: int = 1
    low: float = 0.0
    high: float = 1.0
    shared: Literal["full", "compressed"] | None = None
    common: bool = False
    description: str = ""


def field_slices(fields: tuple[ObsField, ...]) -> dict[str, slice]:
    """Columns of each field in the observation vector."""
    slices, start = {}, 0
    for f in fields:
        slices[f.name] = slice(start, start + f.size)
        start += f.size
    return slices


def observation_space(fields: tuple[ObsField, ...]) -> gymnasium.spaces.Box:
    """The flat Box that the fields make up."""
    low = np.concatenate([np.full(f.size, 0.0 if f.kind == "categorical" else f.low, np.float32) for f in fields])
    high = np.concatenate([np.full(f.size, 1.0 if f.kind == "categorical" else f.high, np.float32) for f in fields])
    return gymnasium.spaces.Box(low, high, dtype=np.float32)


@dataclass
class FinalStep:
    """What the copies that ended in a step looked like before they were reset, F of them."""

    copies: IntArray  # [F] their indices
    obs: FloatArray  # [F, N, D]
    action_mask: BoolArray  # [F, N, A]
    acting: BoolArray  # [F, N]
    local_state: FloatArray  # [F, N, L]
    state: FloatArray  # [F, S]
    statistics: Statistics  # {name: [F, ...]} of the whole episode
    stream: IntArray | None = None  # [F, N] the stream of each acting agent; None where there is one stream


@dataclass
class EnvStep:
    """What B copies show after a reset or a step; all but reward, cost, duration and final may belong to a new episode.

    The arrays are the simulator's own buffers: copy what must outlive the next step.
    """

    obs: FloatArray  # [B, N, D]
    action_mask: BoolArray  # [B, N, A]; an agent that does not act has [1, 0, ...]
    acting: BoolArray  # [B, N] agents that take a decision now
    reward: FloatArray  # [B, N] over the step that just ended
    cost: FloatArray  # [B, N]
    terminated: BoolArray  # [B]
    truncated: BoolArray  # [B]
    duration: FloatArray  # [B] of the step that just ended, in the environment's unit of time
    final: FinalStep | None = None
    stream: IntArray | None = None  # [B, N] the stream of the decision; None where there is one stream
    stream_reward: FloatArray | None = None  # [B, N, K]
    stream_done: BoolArray | None = None  # [B, N, K]


class BatchedEnv(ABC):
    """B independent copies of an N-agent game.

    `step` executes action 0 (the no-op) for agents that do not act and for masked actions, counts the latter in the
    statistic `illegal_actions` [B, N] (`strict=True` raises instead) and resets ended copies in the same step.
    Given equal actions, copy b is bit-identical for any B.
    """

    name: ClassVar[str]
    duration_unit: ClassVar[str]  # of EnvStep.duration, and what gamma is per unit of
    gamma: ClassVar[float]  # default discount per unit of duration
    has_cost: ClassVar[bool] = False  # whether EnvStep.cost is ever anything but zero
    default_episodes: ClassVar[int | None] = None  # of an evaluation, where metrics need whole episodes
    num_streams: int = 1

    config: Configuration
    num_envs: int
    strict: bool
    agents: tuple[str, ...]
    obs_fields: tuple[ObsField, ...]
    observation_space: gymnasium.spaces.Box
    action_space: gymnasium.spaces.Discrete[np.int64]

    def __init__(self, config: Configuration, num_envs: int = 1, strict: bool = False) -> None:
        self.config = config
        self.num_envs = num_envs
        self.strict = strict

    @abstractmethod
    def reset(self, seed: int = 0) -> EnvStep:
        """Begin a new episode in every copy; copy b's randomness depends on (seed, b) alone."""

    @abstractmethod
    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        """Advance every copy to its next decision epoch.

        Args:
            actions: Integers [B, N].

        Raises:
            UserError: Under `strict`, at an action that the mask forbids.
        """

    def hear(self, actions: IntArray, event: IntArray, duration: IntArray) -> EnvStep:
        """Go on as if this event had followed these actions, whatever the environment would have made of them.

        Agents make observations of what they do and hear by rules that are theirs, and known. What follows from actions is for
        a model to say; together they make a game that needs no simulator. The step's reward is zero, its cost is not.

        Args:
            actions: Integers [B, N]; illegal ones are executed as 0.
            event: Values [B] of the observation field that is common to all agents.
            duration: How long it lasted, [B].

        Raises:
            UserError: Where observations depend on more than that.
        """
        raise UserError(f"{self.name} does not say how observations follow from events; that takes a simulator")

    def ended(self, copies: IntArray, obs: FloatArray, action_mask: BoolArray, acting: BoolArray) -> FinalStep:
        """What copies that have ended look like, to be taken before they begin anew.

        Args:
            copies: Their indices, [F].
            obs: What all copies show, [B, N, D].
            action_mask: Likewise, [B, N, A].
            acting: Likewise, [B, N].
        """
        seen = obs[copies], action_mask[copies], acting[copies], self.local_state()[copies], self.state()[copies]
        return FinalStep(copies, *seen, {name: values[copies] for name, values in self.statistics().items()})

    def executed(self, actions: npt.NDArray[Any], mask: BoolArray) -> tuple[IntArray, BoolArray]:
        """Actions [B, N] with 0 in place of those that the mask [B, N, A] forbids, and which those are.

        Raises:
            UserError: Under `strict`, at the first of those.
        """
        chosen = np.asarray(actions, np.int64)
        if self.strict:
            self.refuse_illegal(chosen, mask)
        legal = _legal(chosen, mask)
        return np.where(legal, chosen, 0), (chosen != 0) & ~legal

    def refuse_illegal(self, actions: IntArray, mask: BoolArray) -> None:
        """Raise at an action [B, N] that the mask [B, N, A] forbids; what simulators do under `strict`.

        Raises:
            UserError: Naming the copy, the agent, the action and what is allowed.
        """
        illegal = (actions != 0) & ~_legal(actions, mask)
        if illegal.any():
            b, i = np.argwhere(illegal)[0]
            legal = [str(action) for action in np.flatnonzero(mask[b, i])]
            raise UserError(
                f"illegal action {actions[b, i]} of {self.agents[i]} in copy {b}; its mask allows "
                + (" or ".join(legal) if len(legal) > 1 else f"only {legal[0]}")
            )

    @abstractmethod
    def local_state(self) -> FloatArray:
        """What each agent knows of itself, [B, N, L]."""

    @abstractmethod
    def state(self) -> FloatArray:
        """The N blocks of local state, then one global block, [B, S]."""

    @abstractmethod
    def statistics(self) -> Statistics:
        """Raw sums of the running episode, {name: [B, ...]}; copies, not views."""


def _legal(actions: IntArray, mask: BoolArray) -> BoolArray:
    """Which actions [B, N] the mask [B, N, A] allows."""
    inside = (actions >= 0) & (actions < mask.shape[-1])
    found: BoolArray = inside & np.take_along_axis(mask, np.where(inside, actions, 0)[..., None], -1)[..., 0]
    return found
