"""What an import needs to know: which column of the logs is what. Parsed once, from YAML or a mapping."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import yaml
from pydantic import field_validator
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration
from rllib_wireless.configuration import field as field_
from rllib_wireless.errors import UserError

_UNITS_NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) *(ns|us|ms|s|min|h)")


@dataclass(frozen=True, config=CONFIG)
class Feature:
    """A column of the observation that does not go in as it is.

    Args:
        column: Name of the column.
        scale: What its numbers are multiplied by.
        low: Smallest value allowed, after scaling; a row below it is rejected.
        high: Largest value allowed, after scaling.
        values: What its cells may say, for a column of words; it is made one-hot in this order.
    """

    column: str
    scale: float = 1.0
    low: float = -np.inf
    high: float = np.inf
    values: tuple[str, ...] | None = None


@dataclass(frozen=True, config=CONFIG)
class Choice:
    """A column of words that stand for 0, 1, ... in the order of `values`."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, config=CONFIG)
class Clock:
    """A column of times, which becomes steps.

    Args:
        column: Name of the column.
        step: How long a step lasts, such as `20 ms`; times are rounded to whole steps.
        unit: `iso` for dates and times as ISO 8601 writes them, else the unit of a number.
    """

    column: str
    step: str
    unit: Literal["iso", "s", "ms", "us", "ns"] = "iso"

    @field_validator("step")
    @classmethod
    def _is_duration(cls, value: str) -> str:
        if duration_ns(value) < 1:
            raise ValueError("a step should last longer than nothing")
        return value

    @property
    def step_ns(self) -> int:
        """Nanoseconds of a step."""
        return duration_ns(self.step)

    @property
    def unit_ns(self) -> int:
        """Nanoseconds of the unit of a number."""
        return _UNITS_NS["ns" if self.unit == "iso" else self.unit]


@dataclass(frozen=True, config=CONFIG)
class ImportMapping(Configuration):
    """Which column of the logs is what."""

    owner: ClassVar[str] = "import mapping"

    environment: str = field_("imported", "name of the environment that the logs come from, ours or any other")
    env_config: dict[str, Any] = field_({}, "its configuration, where it is one of ours")
    delimiter: str = field_(",", "what stands between the values of a CSV file", min_length=1, max_length=1)
    agent: str | None = field_(None, "column that names the agent; without it there is one agent")
    agents: dict[str, str] = field_({}, "what the agents of the logs are called here, in order")
    aligned: bool = field_(
        False, "whether to leave out steps of which an agent lacks its row; most algorithms need all agents' rows"
    )
    episode: str | None = field_(None, "column with the episode; without it there is one episode")
    gap: int | str | None = field_(
        None,
        "longest time without rows within an episode, in steps or such as `10 s`; a longer one begins a new episode",
    )
    time: str | Clock = field_(
        "t", "column with the environment step of the decision, an integer; or `{column, step, unit}` for a time"
    )
    observations: list[str | dict[str, int] | Feature] = field_(
        ["obs"],
        "columns of the observation, in order: a name, `{name: n}` made one-hot over 0 to n - 1, or `{column, scale, low, high}`,"
        " or `{column, values}` made one-hot",
        min_length=1,
    )
    next_observations: list[str | dict[str, int] | Feature] | None = field_(
        None, "of the next one; without it the next row's"
    )
    actions: str | Choice = field_("action", "column with the action, 0 to A - 1; or `{column, values}`")
    rewards: str | dict[str, float] = field_(
        "reward", "column with the reward up to the agent's next row; or `{column: weight}`, whose weighted sum it is"
    )
    terminateds: str | None = field_(None, "column that says whether the episode ended here")
    truncateds: str | None = field_(None, "column that says whether the episode was cut off here")
    duration: str | None = field_(None, "column with the time to the next row; without it the difference of steps")
    costs: str | dict[str, float] | None = field_(
        None, "column with the cost up to the agent's next row; or a weighted sum"
    )
    action_prob: str | None = field_(None, "column with the probability of the action given the observation")
    action_masks: list[str] | None = field_(None, "columns that say which actions were allowed, in order")
    num_actions: int | None = field_(None, "number of actions; without it the largest in the logs, plus one", ge=1)
    gamma: float = field_(0.99, "discount per step, where the environment is not one of ours", gt=0.0, le=1.0)
    window: int = field_(
        100_000, "lines of a file among which order in time is restored; a row that comes later still is rejected", ge=1
    )

    @field_validator("gap")
    @classmethod
    def _is_gap(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, str):
            duration_ns(value)
        elif value is not None and value < 1:
            raise ValueError("should be at least 1")
        return value

    @property
    def time_column(self) -> str:
        """Name of the column with the time."""
        return self.time if isinstance(self.time, str) else self.time.column

    @property
    def gap_steps(self) -> int | None:
        """The longest gap within an episode, in steps.

        Raises:
            UserError: Where it is a time, but the column of times holds steps.
        """
        if not isinstance(self.gap, str):
            return self.gap
        if isinstance(self.time, str):
            raise UserError(f"import mapping: gap = {self.gap!r}, but steps have no unit; give a number of steps")
        return max(duration_ns(self.gap) // self.time.step_ns, 1)

    def roles(self) -> list[tuple[str, str]]:
        """Every use of a column: its name, and the field that names it."""
        given: list[tuple[str, str]] = []
        for name in ("agent", "episode", "terminateds", "truncateds", "duration", "action_prob"):
            given += [(column, name)] if (column := getattr(self, name)) is not None else []
        given.append((self.time_column, "time"))
        given.append((self.actions if isinstance(self.actions, str) else self.actions.column, "actions"))
        for name in ("rewards", "costs"):
            given += [(column, name) for column in weights(getattr(self, name))]
        given += [(column, "action_masks") for column in self.action_masks or ()]
        for name in ("observations", "next_observations"):
            given += [(feature.column, name) for feature in features(getattr(self, name))]
        return given


def features(entries: list[str | dict[str, int] | Feature] | None) -> list[Feature]:
    """The columns of an observation, in one form."""
    found: list[Feature] = []
    for entry in entries or ():
        if isinstance(entry, Feature):
            found.append(entry)
        elif isinstance(entry, str):
            found.append(Feature(entry))
        else:
            found += [Feature(name, values=tuple(map(str, range(size)))) for name, size in entry.items()]
    return found


def weights(given: str | dict[str, float] | None) -> dict[str, float]:
    """The columns of a sum, with what each is multiplied by."""
    return {given: 1.0} if isinstance(given, str) else dict(given or {})


def duration_ns(text: str) -> int:
    """Nanoseconds of a time such as `20 ms`.

    Raises:
        ValueError: At anything else.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"should be a number and one of {', '.join(_UNITS_NS)}, such as `20 ms`")
    return round(float(match[1]) * _UNITS_NS[match[2]])


def read_mapping(given: ImportMapping | Mapping[str, Any] | Path | str) -> ImportMapping:
    """The mapping that an object, a mapping of its fields or a YAML file of them stands for.

    Raises:
        UserError: Where there is no such file, or it is no mapping.
    """
    if isinstance(given, ImportMapping):
        return given
    if isinstance(given, Mapping):
        return ImportMapping.parse(given)
    path = Path(given)
    if not path.is_file():
        raise UserError(f"there is no mapping file {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold fields of the mapping, `name: value`")
    return ImportMapping.parse(content)
