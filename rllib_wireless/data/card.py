"""The card: what a data set is, where it comes from, and whether it is whole. `card.yaml` lies beside the files."""

import dataclasses
import os
import platform
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

import rllib_wireless
from rllib_wireless import storage
from rllib_wireless.data.format import CARD, COLUMNS, REQUIRED, VERSION
from rllib_wireless.envs.base import BatchedEnv
from rllib_wireless.errors import DataError

_CONFIG = ConfigDict(extra="forbid")
_LARGEST = 4_000_000  # bytes; a card is a few thousand
Kind = Literal["joint", "client", "clients"]


@dataclass(frozen=True, config=_CONFIG)
class EnvironmentCard:
    """The environment that the data comes from.

    Args:
        name: Its registered name, or any name where the data was imported.
        config: Its whole configuration.
        agents: All agents of the joint game, in order.
        obs_low: Smallest value of each column of the observation.
        obs_high: Largest value of each column of the observation.
        obs_names: Name of each column of the observation.
        num_actions: A.
        num_streams: K.
        duration_unit: Unit of `duration`.
        gamma: The environment's default discount per unit of duration.
    """

    name: str
    config: dict[str, Any]
    agents: tuple[str, ...]
    obs_low: tuple[float, ...]
    obs_high: tuple[float, ...]
    obs_names: tuple[str, ...]
    num_actions: int
    num_streams: int = 1
    duration_unit: str = "steps"
    gamma: float = 0.99

    @property
    def obs_size(self) -> int:
        """D."""
        return len(self.obs_low)


@dataclass(frozen=True, config=_CONFIG)
class BehaviourCard:
    """A policy that acted, on how many joint steps, in which episodes (first and last number)."""

    policy: str
    share: float
    params: dict[str, Any]
    privileged: bool
    seed: int
    steps: int = 0
    episodes: tuple[int, int] | None = None


@dataclass(frozen=True, config=_CONFIG)
class AgentCard:
    """What was recorded of one agent.

    Args:
        transitions: Its rows.
        dropped: Transitions left out because they were open when a truncated episode or the collecting ended.
        return_mean: Mean undiscounted return of its ended episodes; of the unfinished ones where none ended.
        return_std: Standard deviation likewise.
    """

    transitions: int = 0
    dropped: int = 0
    return_mean: float | None = None
    return_std: float | None = None


@dataclass(frozen=True, config=_CONFIG)
class FileCard:
    """A file of the data set."""

    name: str
    bytes: int
    lines: int
    sha256: str


@dataclass(frozen=True, config=_CONFIG)
class Card:
    """All that is said of a data set.

    Args:
        complete: Whether collecting came to its end; files are only listed then.
        kind: `joint` for all agents, `client` for one agent's own data, `clients` for a folder of those.
        environment: Where the data comes from.
        rows: `decisions`, or `all` for a row per agent and step.
        columns: The columns of every agent's rows.
        state_size: Width of the joint state, or None where it is not recorded.
        agents: The recorded agents.
        action_prob: `exact` where probabilities of the actions are recorded, else `absent`.
        policies: What acted.
        seed: Seed of the collecting.
        num_envs: Copies of the environment that each policy ran.
        steps: Joint environment steps.
        episodes: Episodes that came to their end.
        metrics: The environment's metrics over all that was collected; empty for one client, who cannot know them.
        versions: Of the software that wrote it.
        source: What it was converted or imported from.
    """

    complete: bool
    kind: Kind
    environment: EnvironmentCard
    rows: Literal["decisions", "all"]
    columns: tuple[str, ...]
    agents: dict[str, AgentCard]
    state_size: int | None = None
    action_prob: Literal["exact", "absent"] = "absent"
    policies: tuple[BehaviourCard, ...] = ()
    seed: int | None = None
    num_envs: int | None = None
    steps: int = 0
    episodes: int = 0
    metrics: dict[str, float | None] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    source: str | None = None
    files: tuple[FileCard, ...] = ()
    format: Literal[1] = VERSION


_CARD = TypeAdapter(Card)  # built once, as that takes longer than reading a card


def environment_card(env: BatchedEnv) -> EnvironmentCard:
    """The card of an environment."""
    names = [[f.name] if f.size == 1 else [f"{f.name}_{i}" for i in range(f.size)] for f in env.obs_fields]
    return EnvironmentCard(
        name=env.name,
        config=_plain(dataclasses.asdict(env.config)),  # type: ignore[call-overload]
        agents=env.agents,
        obs_low=tuple(env.observation_space.low.tolist()),
        obs_high=tuple(env.observation_space.high.tolist()),
        obs_names=tuple(name for group in names for name in group),
        num_actions=int(env.action_space.n),
        num_streams=env.num_streams,
        duration_unit=env.duration_unit,
        gamma=env.gamma,
    )


def as_dict(card: Card) -> dict[str, Any]:
    """The card as plain values."""
    content: dict[str, Any] = _CARD.dump_python(card, mode="json")
    return content


def versions() -> dict[str, str]:
    """Versions of what decides the content of a data set."""
    return {"rllib_wireless": rllib_wireless.__version__, "numpy": np.__version__, "python": platform.python_version()}


def read_card(folder: Path | str) -> Card:
    """Read the card of a data set.

    Raises:
        DataError: Where the folder or the card is missing, or the card is not what it should be.
    """
    here = storage.local(folder, (CARD,))
    path = here / CARD
    if not here.is_dir():
        raise DataError("there is no such folder", folder)
    if not path.is_file():
        if not storage.is_remote(folder) and not any(here.iterdir()):
            raise DataError("the folder is empty; `rllib-wireless collect` fills one", folder)
        hint = "`rllib-wireless data convert` or `data import` turns other files into a data set"
        raise DataError(f"it is not a data set, as it holds no {CARD}; {hint}", storage.name(folder))
    try:
        content = _parse(path)
        if isinstance(content, dict) and content.get("format", VERSION) != VERSION:
            raise DataError(f"format {content['format']!r}, but this version reads format {VERSION}", path)
        card = _CARD.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"][0].lower() + first["msg"][1:]
        raise DataError(f"{where or 'the card'}: {message}", path) from None
    _check(card, path)
    return card


def write_card(card: Card, folder: Path) -> None:
    """Write the card of a data set, whole or not at all."""
    content = as_dict(card)
    path = folder / CARD
    temporary = folder / f".{CARD}.{os.getpid()}"
    with temporary.open("w") as file:
        yaml.dump(content, file, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def check_environment(card: Card, environment: EnvironmentCard, path: Path) -> None:
    """Check that data can be used in an environment: same name, agents, observations and actions.

    Raises:
        DataError: Where it cannot.
    """
    has, wants = card.environment, environment
    if has.name != wants.name:
        raise DataError(f"it holds data of {has.name}, not of {wants.name}", path)
    for what, a, b in (
        ("agents", ", ".join(has.agents), ", ".join(wants.agents)),
        ("observation columns", ", ".join(has.obs_names), ", ".join(wants.obs_names)),
        ("number of actions", has.num_actions, wants.num_actions),
        ("number of streams", has.num_streams, wants.num_streams),
    ):
        if a != b:
            raise DataError(f"its {what} are {a}, but those of the {wants.name} given are {b}", path)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _parse(path: Path) -> object:
    """Safe YAML without aliases: a few lines of those expand beyond all memory."""
    if path.stat().st_size > _LARGEST:
        raise DataError(f"the card is larger than {_LARGEST} bytes", path)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = path.read_text(encoding="utf-8")
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
            raise DataError("YAML aliases are not allowed in a card", path)
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).replace("\n", " ")
        raise DataError(f"it cannot be read as YAML: {reason}", path) from None


def _check(card: Card, path: Path) -> None:
    """What types alone do not say."""
    env = card.environment
    optional = {
        "acting": card.rows == "all",
        "stream": env.num_streams > 1,
        "action_prob": card.action_prob == "exact",
    }
    expected = [n for n in COLUMNS if n in REQUIRED or optional.get(n, n == "costs" and "costs" in card.columns)]
    problems = {
        "environment.obs_high and obs_names should be as long as obs_low": (
            len({len(env.obs_low), len(env.obs_high), len(env.obs_names)}) > 1
        ),
        "environment.obs_low should not be above obs_high": any(
            a > b for a, b in zip(env.obs_low, env.obs_high, strict=False)
        ),
        "environment.obs_low should not be empty": not env.obs_low,
        "environment.num_actions and num_streams should be at least 1": min(env.num_actions, env.num_streams) < 1,
        "environment.agents should name each agent once": not env.agents or len(set(env.agents)) < len(env.agents),
        "agents should be agents of the environment": not card.agents or not set(card.agents) <= set(env.agents),
        "a client's card should name one agent": card.kind == "client" and len(card.agents) != 1,
        "a client's card should have no joint state": card.kind != "joint" and card.state_size is not None,
        "state_size should be at least 1": card.state_size is not None and card.state_size < 1,
        f"columns should be {', '.join(expected)}": sorted(card.columns) != sorted(expected),
        "files should be names of .json files, each once": not _file_names_ok(card),
    }
    for problem, wrong in problems.items():
        if wrong:
            raise DataError(problem, path)


def _file_names_ok(card: Card) -> bool:
    names = [file.name for file in card.files]
    return len(set(names)) == len(names) and all(Path(n).name == n and n.endswith(".json") for n in names)


def _plain(value: object) -> Any:
    """Tuples, paths and numbers of NumPy as what YAML can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
