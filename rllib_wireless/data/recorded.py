"""An environment that is known by its data alone: enough to train on them, and nothing that could be run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import gymnasium
import numpy.typing as npt

from rllib_wireless.configuration import Configuration
from rllib_wireless.data.card import EnvironmentCard, read_card
from rllib_wireless.envs.base import BatchedEnv, EnvStep, FloatArray, ObsField, Statistics, observation_space
from rllib_wireless.errors import UserError


@dataclass(frozen=True)
class NoConfig(Configuration):
    """There is nothing to configure."""

    owner: ClassVar[str] = "recorded environment"


class RecordedEnv(BatchedEnv):
    """What a data set's card says of an environment: agents, observations and actions, but no physics.

    Args:
        card: The card.
        num_envs: B.
    """

    def __init__(self, card: EnvironmentCard, num_envs: int = 1) -> None:
        super().__init__(NoConfig(), num_envs)
        self.name, self.duration_unit, self.gamma = card.name, card.duration_unit, card.gamma  # type: ignore[misc]
        self.num_streams = card.num_streams
        self.agents = card.agents
        limits = zip(card.obs_names, card.obs_low, card.obs_high, strict=True)
        self.obs_fields = tuple(ObsField(name, "continuous", low=low, high=high) for name, low, high in limits)
        self.observation_space = observation_space(self.obs_fields)
        self.action_space = gymnasium.spaces.Discrete(card.num_actions)

    def reset(self, seed: int = 0) -> EnvStep:
        self._refuse()

    def step(self, actions: npt.NDArray[Any]) -> EnvStep:
        self._refuse()

    def local_state(self) -> FloatArray:
        self._refuse()

    def state(self) -> FloatArray:
        self._refuse()

    def statistics(self) -> Statistics:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UserError(
            f"{self.name} is known by its data alone and cannot be run; `estimate` says from the data what a policy is worth"
        )


def recorded_env(path: Path | str, name: str, num_envs: int = 1) -> RecordedEnv:
    """The environment that a data set comes from.

    Args:
        path: Folder or URI of the data set.
        name: What the environment should be called.
        num_envs: B.

    Raises:
        UserError: Where the data are of another environment.
    """
    card = read_card(path).environment
    if card.name != name:
        raise UserError(f"there is no environment {name!r}, and {path} holds data of {card.name!r}")
    return RecordedEnv(card, num_envs)
