"""What a sweep searches: for each algorithm the settings that are worth trying, and between which values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from rllib_wireless.algorithms.registry import VARIANTS, AlgorithmSpec
from rllib_wireless.errors import UserError

When = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Range:
    """All numbers between two, whole ones if both are.

    Args:
        low: The least.
        high: The largest.
        log: Whether to draw the logarithm evenly.
        when: Other settings, and the values of theirs with which this one counts.
    """

    low: float
    high: float
    log: bool = False
    when: When = field(default_factory=dict)

    def distribution(self) -> BaseDistribution:
        """The same for Optuna."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(float(self.low), float(self.high), log=self.log)

    def encode(self, value: Any) -> Any:
        """A value as Optuna keeps it; None if it is not among those searched."""
        inside = isinstance(value, int | float) and self.low <= value <= self.high
        return value if inside else None

    def decode(self, value: Any) -> Any:
        """A value that Optuna kept, as the setting."""
        return value

    def examples(self) -> tuple[Any, ...]:
        """Its ends."""
        return self.low, self.high

    def __str__(self) -> str:
        """As `--search` takes it."""
        return f"{self.low:g}..{self.high:g}{':log' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of some values, which may be lists or none.

    Args:
        values: The values.
        when: Other settings, and the values of theirs with which this one counts.
    """

    values: tuple[Any, ...]
    when: When = field(default_factory=dict)

    def distribution(self) -> BaseDistribution:
        """The same for Optuna, which keeps names of the values."""
        return CategoricalDistribution([_name(value) for value in self.values])

    def encode(self, value: Any) -> Any:
        """A value as Optuna keeps it; None if it is not among those searched."""
        return _name(value) if _name(value) in map(_name, self.values) else None

    def decode(self, value: Any) -> Any:
        """A value that Optuna kept, as the setting."""
        return orjson.loads(value)

    def examples(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values

    def __str__(self) -> str:
        """As `--search` takes it."""
        return f"[{', '.join(_name(value) for value in self.values)}]"


Domain = Range | Choice
Space = Mapping[str, Domain]

_HIDDENS = Choice(((64, 64), (128, 128), (256, 256)))
_BATCH = Choice((128, 256, 512))
_CLIP = Choice((None, 0.5, 1.0, 10.0))

_PLANNER: When = {"policy_learning": ("planner",)}
_ROLLOUT: When = {"policy_learning": ("rollout",)}
_PLAY: When = {"policy_learning": ("self_play",)}
_EXPECTIMAX: When = {**_PLANNER, "planner": ("expectimax",)}
_SAC: When = {"backbone": ("sac",)}

SPACES: Mapping[str, Space] = {
    "bc": {"lr": Range(1e-4, 1e-2, log=True), "train_batch_size_per_learner": _BATCH, "fcnet_hiddens": _HIDDENS},
    "ctde_cql": {
        "lr": Range(1e-4, 1e-2, log=True),
        "cql_alpha": Range(0.01, 10.0, log=True),
        "gamma": Choice((None, 0.0, 0.5, 0.9)),
        "tau": Range(1e-3, 5e-2, log=True),
        "reward_scale": Choice((None, 0.3, 1.0, 3.0)),
        "grad_clip": _CLIP,
        "num_critics": Choice((None, 1, 2)),
        "target_entropy": Range(0.05, 0.95, when={**_SAC, "temperature": ("auto",)}),
        "train_batch_size_per_learner": _BATCH,
        "fcnet_hiddens": _HIDDENS,
    },
    "dcc": {
        "q_lr": Range(0.1, 1.0, log=True, when={"fast_timescale": ("q_learning",)}),
        "epsilon": Range(0.05, 1.0, log=True, when={"fast_timescale": ("q_learning",)}),
        "epsilon_decay": Range(0.8, 1.0, when={"fast_timescale": ("q_learning",)}),
        "learning_episode_slots": Range(10, 100, log=True, when={"fast_timescale": ("q_learning",)}),
        "multiplier_updates": Range(10, 40),
        "multiplier_lr": Range(0.1, 10.0, log=True),
        "perturbation_size": Range(0.01, 0.2, log=True, when={"gradient": ("finite_differences",)}),
        "constraint_lr": Range(0.05, 1.0, log=True),
    },
    "fedmorl": {
        "model_lr": Range(1e-3, 1e-2, log=True),
        "model_lr_decay": Range(0.7, 1.0),
        "local_steps": Range(50, 300, log=True),
        "model_hiddens": Choice(((64, 64), (128, 128))),
        "policy_lr": Range(1e-3, 2e-2, log=True),
        "policy_steps": Range(200, 1000, log=True),
        "clone_steps": Range(500, 3000, log=True),
        "beta": Range(0.05, 3.0, log=True, when=_PLANNER),
        "max_weight": Range(5.0, 100.0, log=True, when=_PLANNER),
        "planner_shift": Range(-2.0, 0.5, when=_PLANNER),
        "planner_neighbours": Range(1, 16, log=True, when=_EXPECTIMAX),
        "planner_support": Range(1e-4, 1e-1, log=True, when=_PLANNER),
        "rollout_horizon": Range(1, 10, when=_ROLLOUT),
        "rollout_shift": Range(-2.0, 0.5, when=_ROLLOUT),
        "cql_alpha": Range(0.03, 3.0, log=True, when=_ROLLOUT),
        "tau": Range(0.01, 1.0, log=True, when=_ROLLOUT),
        "self_play_lr": Range(3e-4, 1e-2, log=True, when=_PLAY),
        "self_play_team": Range(0.0, 1.0, when=_PLAY),
        "self_play_start": Range(0.02, 0.5, log=True, when=_PLAY),
        "self_play_rare": Range(0.1, 0.45, when=_PLAY),
    },
    "independent_q": {
        "q_lr": Range(5e-3, 0.5, log=True),
        "epsilon": Range(0.01, 0.5, log=True),
        "epsilon_decay": Range(0.8, 1.0),
        "learning_episode_slots": Range(10, 100, log=True),
    },
    "ppo": {
        "lr": Range(1e-4, 1e-2, log=True),
        "clip_param": Range(0.05, 0.5),
        "entropy_coeff": Range(1e-4, 0.1, log=True),
        "lambda_": Range(0.8, 1.0),
        "num_epochs": Range(1, 8),
        "grad_clip": _CLIP,
        "train_batch_size_per_learner": Choice((256, 512, 1024)),
        "fcnet_hiddens": _HIDDENS,
    },
    "scam_fqi": {
        "fqi_iterations": Range(3, 30, log=True),
        "gamma": Range(0.9, 0.999),
        "n_estimators": Range(10, 100, log=True),
        "min_samples_split": Range(2, 50, log=True),
        "min_samples_leaf": Range(1, 50, log=True),
        "epsilon": Range(0.0, 0.3),
        "initial_values": Choice(("zero", "monte_carlo")),
    },
}
"""By algorithm. The defaults of the settings lie inside, and are the first configuration that a sweep tries."""

_RANGE = re.compile(r"(?P<low>.+)\.\.(?P<high>.+?)(?P<log>:log)?")


def declared_space(spec: AlgorithmSpec) -> dict[str, Domain]:
    """All that is worth trying of an algorithm; of a variant nothing that makes it one."""
    base = VARIANTS[spec.name][0] if spec.name in VARIANTS else spec.name
    return {name: domain for name, domain in SPACES[base].items() if name not in spec.defaults}


def space_of(spec: AlgorithmSpec, fixed: Mapping[str, Any], changes: Mapping[str, Domain]) -> dict[str, Domain]:
    """What a sweep of an algorithm searches.

    Args:
        spec: The algorithm, or a variant of one, whose own settings are fixed, too.
        fixed: Settings that are given, which are not searched.
        changes: Domains in place of the declared ones, or beside them.

    Raises:
        UserError: Where nothing is left, or a domain holds what the setting may not be.
    """
    known = {f.name: f.default for f in spec.settings}
    for name, domain in changes.items():
        if name in fixed:
            raise UserError(f"--search {name}: --set fixes it; give one of the two")
        for value in domain.examples():
            # As settings are checked: a domain whose ends are allowed is.
            spec.config().training(**{name: value}).parsed()
    given = {**known, **spec.defaults, **fixed}
    declared = declared_space(spec)
    space = {
        name: domain
        for name, domain in declared.items()
        if all(given[other] in values for other, values in domain.when.items())
    }
    space = {name: domain for name, domain in {**space, **changes}.items() if name not in fixed}
    if not space:
        raise UserError(f"{spec.name}: nothing is left to search; declared are {', '.join(declared)}")
    return space


def defaults_in(spec: AlgorithmSpec, space: Space) -> dict[str, Any]:
    """The algorithm's defaults of the settings that are searched, as Optuna keeps them, as far as they lie inside."""
    defaults = {**{f.name: f.default for f in spec.settings}, **spec.defaults}
    encoded = {name: domain.encode(defaults[name]) for name, domain in space.items()}
    return {name: value for name, value in encoded.items() if value is not None}


def parse_domain(name: str, text: str) -> Domain:
    """What `--search NAME=TEXT` says: `low..high`, `low..high:log` or `[a, b, c]`.

    Raises:
        UserError: Where it is none of these.
    """
    allowed = "it should be low..high, low..high:log or [a, b, c]"
    if match := _RANGE.fullmatch(text.strip()):
        try:
            low, high = (_number(match[end]) for end in ("low", "high"))
        except ValueError:
            raise UserError(f"--search {name}={text}: {allowed}") from None
        log = match["log"] is not None
        if not low < high or (log and low <= 0):
            raise UserError(f"--search {name}={text}: low should be below high, and above 0 for log")
        return Range(low, high, log)
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        values = None
    if not isinstance(values, list) or not values:
        raise UserError(f"--search {name}={text}: {allowed}")
    return Choice(tuple(tuple(v) if isinstance(v, list) else v for v in values))


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _name(value: Any) -> str:
    return orjson.dumps(value).decode()
