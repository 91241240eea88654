"""Environments by name: simulator, rules and metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rllib_wireless.configuration import Configuration
from rllib_wireless.envs import plugins
from rllib_wireless.envs.base import BatchedEnv, Statistics
from rllib_wireless.envs.policy import Policy, RandomLegal
from rllib_wireless.errors import ConfigError, UserError


def ratio(numerator: float, denominator: float) -> float:
    """What most metrics are; NaN where there is nothing to divide by."""
    return float(numerator / denominator) if denominator else float("nan")


@dataclass(frozen=True)
class Metric:
    """A number that tells how well a network did.

    Args:
        name: Its name.
        unit: Its unit, empty for a ratio.
        better: Whether `higher` or `lower` is better.
        reduce: Turns statistics {name: [E, ...]} pooled over E episodes (or copies) into the value.
        description: What it is.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    reduce: Callable[[Statistics], float]
    description: str


@dataclass(frozen=True)
class Rule:
    """A rule-based policy, bound to an environment by `make_policy`.

    Args:
        policy: Called with the environment and the parameters.
        config: Its parameters, with defaults.
        description: What it does.
    """

    policy: Callable[[Any, Any], Policy]
    config: type[Configuration]
    description: str
    privileged: bool = False
    defaults: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class EnvSpec:
    """All that is known of an environment by name.

    Attributes:
        objectives: Metrics that say most, by name; what sweeps optimise if not told.
        validation: Fields of the configuration under which policies are compared while they are chosen, so that none is chosen on
            what it is tested on.
    """

    env: type[BatchedEnv]
    config: type[Configuration]
    rules: Mapping[str, Rule]
    metrics: tuple[Metric, ...]
    description: str
    objectives: tuple[str, ...] = ()
    validation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NoParameters(Configuration):
    """A rule without parameters."""

    owner: ClassVar[str] = "rule"


RANDOM = Rule(lambda env, parameters: RandomLegal(), NoParameters, "every legal action with equal probability")
"""A rule that any environment may have."""

_SPECS: dict[str, EnvSpec] = {}


def register(spec: EnvSpec) -> None:
    """Make an environment known by its simulator's name."""
    _SPECS[spec.env.name] = spec


def env_names() -> list[str]:
    """Names of all environments."""
    plugins.load()
    return sorted(_SPECS)


def env_spec(name: str) -> EnvSpec:
    """What is known of an environment.

    Raises:
        UserError: Where there is none of that name.
    """
    plugins.load()
    if name not in _SPECS:
        raise UserError(
            f"there is no environment {name!r}; environments are {', '.join(env_names())}; others are named by --import MODULE, "
            "and what is known by its data alone cannot be run, but `estimate` says what a policy is worth there"
        )
    return _SPECS[name]


def make_env(name: str, num_envs: int = 1, *, strict: bool = False, **config: Any) -> BatchedEnv:
    """Build B copies of an environment.

    Args:
        name: The environment's name.
        num_envs: B.
        strict: Raise at illegal actions instead of counting them.
        **config: Fields of the environment's configuration.

    Raises:
        UserError: At an unknown name, field or value.
    """
    spec = env_spec(name)
    if num_envs < 1:
        raise ConfigError(name, "num_envs", num_envs, "it should be at least 1")
    parsed = spec.config.parse(config)
    return spec.env(parsed, num_envs, strict)


def make_policy(name: str, env: BatchedEnv, **params: Any) -> Policy:
    """Bind a rule to its environment.

    Raises:
        UserError: At an unknown rule, parameter or value.
    """
    rules = env_spec(env.name).rules
    if name not in rules:
        raise UserError(f"{env.name} has no rule {name!r}; rules are {', '.join(rules)}")
    rule = rules[name]
    return rule.policy(env, rule.config.parse({**(rule.defaults or {}), **params}))
