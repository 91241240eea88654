"""`rllib-wireless data import`: a user's own logs, in CSV or Parquet or as a pandas frame, become a data set.

A small mapping in YAML says which column is what:

    environment: channel_access        # or any name of your own
    env_config: {num_stations: 2}
    agent: station                     # the column that names the agent
    agents: {"0": station_0, "1": station_1}
    episode: run
    time: slot
    observations: [{channel: 4}, {sent: 2}, delay_share, queue_share]    # {column: n} is made one-hot over 0 ... n - 1
    actions: transmit
    rewards: reward
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration
from rllib_wireless.configuration import field as field_
from rllib_wireless.data.assemble import cast, foreign_environment, known_environment, write_dataset
from rllib_wireless.data.card import Card
from rllib_wireless.data.format import Array
from rllib_wireless.errors import ConfigError, DataError, UserError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, config=CONFIG)
class ImportMapping(Configuration):
    """Which column of the logs is what."""

    owner = "import mapping"

    environment: str = field_("imported", "name of the environment that the logs come from, ours or any other")
    env_config: dict[str, Any] = field_({}, "its configuration, where it is one of ours")
    agent: str | None = field_(None, "column that names the agent; without it there is one agent")
    agents: dict[str, str] = field_({}, "what the agents of the logs are called here")
    episode: str | None = field_(None, "column with the episode; without it there is one episode")
    time: str = field_("t", "column with the environment step of the decision, an integer")
    observations: list[str | dict[str, int]] = field_(["obs"], "columns of the observation, in order", min_length=1)
    next_observations: list[str | dict[str, int]] | None = field_(None, "of the next one; without it the next row's")
    actions: str = field_("action", "column with the action, 0 to A - 1")
    rewards: str = field_("reward", "column with the reward up to the agent's next row")
    terminateds: str | None = field_(None, "column that says whether the episode ended here")
    truncateds: str | None = field_(None, "column that says whether the episode was cut off here")
    duration: str | None = field_(None, "column with the time to the next row; without it the difference of steps")
    costs: str | None = field_(None, "column with the cost up to the agent's next row")
    action_prob: str | None = field_(None, "column with the probability of the action given the observation")
    action_masks: list[str] | None = field_(None, "columns that say which actions were allowed, in order")
    num_actions: int | None = field_(None, "number of actions; without it the largest in the logs, plus one", ge=1)


def import_data(
    source: "Path | str | pd.DataFrame", out: Path | str, mapping: ImportMapping | Mapping[str, Any] | Path | str
) -> Card:
    """Turn logs into a data set.

    Args:
        source: A `.csv` or `.parquet` file, or a pandas frame.
        out: Folder to write; it must not exist, or be empty.
        mapping: Which column is what: an ImportMapping, a mapping of its fields, or the path of a YAML file of them.

    Raises:
        UserError: At a wrong mapping, or where `out` holds something already.
        DataError: At wrong logs, naming row and column.
    """
    m = _mapping(mapping)
    frame, path = _frame(source)
    environment = known_environment(m.environment, m.env_config)
    rows, obs_names = _rows(frame, m, path, environment.agents[0] if environment else "agent_0")
    if environment is None:
        environment = foreign_environment(m.environment, rows, obs_names, m.num_actions)
    return write_dataset(Path(out), rows, environment, path, lambda _, episode, t: f"episode {episode}, {m.time} {t}")


def _mapping(given: ImportMapping | Mapping[str, Any] | Path | str) -> ImportMapping:
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


def _frame(source: "Path | str | pd.DataFrame") -> "tuple[pd.DataFrame, Path]":
    import pandas as pd  # slow to import, and nothing else needs it

    if isinstance(source, pd.DataFrame):
        return source, Path("frame")
    path = Path(source)
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if path.suffix not in readers:
        raise UserError(f"{path} should end with {' or '.join(readers)}")
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        return readers[path.suffix](path), path
    except (ValueError, OSError) as error:
        raise DataError(f"it cannot be read: {' '.join(str(error).split())}", path) from None


def _rows(
    frame: "pd.DataFrame", m: ImportMapping, path: Path, only_agent: str
) -> tuple[dict[str, dict[str, Array]], tuple[str, ...]]:
    """Columns by agent, and the names of the observation's columns."""
    if frame.empty:
        raise DataError("it has no rows", path)
    columns: dict[str, Array] = {"t": cast("t", _column(frame, "time", m.time, path), m.time, path)}
    # Episodes may be numbers or names; here they are numbers in the order in which they first appear.
    episode = np.zeros(len(frame)) if m.episode is None else _column(frame, "episode", m.episode, path)
    columns["eps_id"] = _numbered(episode)
    columns["obs"], obs_names = _observation(frame, m.observations, "observations", "obs", path)
    if m.next_observations is not None:
        columns["new_obs"], _ = _observation(frame, m.next_observations, "next_observations", "new_obs", path)
    for name in ("actions", "rewards", "terminateds", "truncateds", "duration", "costs", "action_prob"):
        column = getattr(m, name)
        if column is not None:
            columns[name] = cast(name, _column(frame, name, column, path), column, path)
    if m.action_masks is not None:
        masks = np.stack([_column(frame, "action_masks", name, path) for name in m.action_masks], axis=1)
        columns["action_mask"] = cast("action_mask", masks, "action_masks", path)
    if m.agent is None:
        return {next(iter(m.agents.values()), only_agent): columns}, obs_names
    agents = np.array([str(name) for name in _column(frame, "agent", m.agent, path)])
    names = sorted(set(agents))
    return {m.agents.get(n, n): {c: values[agents == n] for c, values in columns.items()} for n in names}, obs_names


def _column(frame: "pd.DataFrame", field: str, name: str, path: Path) -> Array:
    if name not in frame.columns:
        allowed = f"{path} has no such column; it has {', '.join(map(str, frame.columns))}"
        raise ConfigError(ImportMapping.owner, field, name, allowed)
    values: Array = frame[name].to_numpy()
    return values


def _observation(
    frame: "pd.DataFrame", fields: list[str | dict[str, int]], field: str, name: str, path: Path
) -> tuple[Array, tuple[str, ...]]:
    parts, names = [], []
    for entry in fields:
        for column, size in [(entry, 0)] if isinstance(entry, str) else entry.items():
            values = cast("rewards" if size == 0 else "actions", _column(frame, field, column, path), column, path)
            if size == 0:
                parts.append(values[:, None])
                names.append(column)
                continue
            if values.min() < 0 or values.max() >= size:
                raise DataError(f"it should hold 0 to {size - 1}, as the mapping says", path, column=column)
            parts.append(np.eye(size)[values])
            names += [f"{column}_{i}" for i in range(size)]
    return cast(name, np.concatenate(parts, axis=1), field, path), tuple(names)


def _numbered(values: Array) -> Array:
    _, first, number = np.unique([str(value) for value in values], return_index=True, return_inverse=True)
    ranks: Array = np.argsort(np.argsort(first))[number]
    return ranks
