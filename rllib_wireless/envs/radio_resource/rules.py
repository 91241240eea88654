"""Rules of scheduling that know what the access points know: users as they were measured one slot earlier."""

from typing import ClassVar

from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration
from rllib_wireless.envs.base import EnvStep, IntArray
from rllib_wireless.envs.policy import Policy, RandomLegal, RoundRobin
from rllib_wireless.envs.radio_resource.simulator import RadioResource
from rllib_wireless.envs.random import StepRandom


@dataclass(frozen=True, config=CONFIG)
class NoConfig(Configuration):
    """A rule without parameters."""

    owner: ClassVar[str] = "radio_resource rule"


class RandomWalk(RandomLegal):
    """Silence or one of the best users, all with equal probability."""

    def __init__(self, env: RadioResource, config: NoConfig) -> None:
        pass


class FullReuse(Policy):
    """Every access point serves its best user in every slot."""

    def __init__(self, env: RadioResource, config: NoConfig) -> None:
        pass

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        actions: IntArray = step.acting.astype("int64")
        return actions


class Tdm(RoundRobin):
    """One access point after the other serves its best user, the others are silent."""

    def __init__(self, env: RadioResource, config: NoConfig) -> None:
        super().__init__(env.num_envs)
