"""From rows that someone else logged to a data set: what is missing is filled in, all is checked, then written whole."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rllib_wireless.data.card import AgentCard, Card, EnvironmentCard, environment_card, versions
from rllib_wireless.data.format import COLUMNS, REQUIRED, Array, Columns
from rllib_wireless.data.fragments import AGENT, Fragment, cut
from rllib_wireless.data.validate import Problem, find_problem
from rllib_wireless.data.writer import DatasetWriter, replaced_when_whole
from rllib_wireless.envs.base import IntArray
from rllib_wireless.envs.registry import env_names, make_env
from rllib_wireless.errors import DataError, UserError

FRAGMENT_ROWS = 200
"""Environment steps of one line at most."""


def fill(rows: Mapping[str, Array], num_actions: int, longest: int | None = None) -> tuple[Columns, int]:
    """Order one agent's rows and fill in the columns that it lacks.

    `obs`, `actions`, `rewards`, `eps_id` and `t` must be there. The next observation, mask and time are those of the
    episode's next row; an episode's last row without them is dropped unless it is terminated. Masks allow everything by
    default, and `duration` is new_t - t.

    Args:
        rows: Columns, in any order.
        num_actions: A.
        longest: Steps after which a row does not follow another one any more.

    Returns:
        All columns, and the number of rows dropped.
    """
    order = np.lexsort((rows["t"], rows["eps_id"]))
    columns = {name: np.asarray(values)[order] for name, values in rows.items()}
    count = len(order)
    for name in ("terminateds", "truncateds"):
        columns.setdefault(name, np.zeros(count, np.bool_))
    columns.setdefault("action_mask", np.ones((count, num_actions), np.bool_))
    has_next = np.append(columns["eps_id"][1:] == columns["eps_id"][:-1], False) if count else np.zeros(0, np.bool_)
    has_next &= ~columns["terminateds"].astype(np.bool_)
    if longest is not None and count:
        has_next &= np.append(np.diff(columns["t"]) <= longest, False)
    # The next row of the episode, or the row itself where there is none.
    following = np.arange(count) + has_next
    kept = has_next | columns["terminateds"].astype(np.bool_) if "new_obs" not in columns else np.ones(count, np.bool_)
    columns.setdefault("new_obs", columns["obs"][following])
    columns.setdefault("new_action_mask", columns["action_mask"][following])
    columns.setdefault("new_t", np.where(has_next, columns["t"][following], columns["t"] + 1))
    columns.setdefault("duration", columns["new_t"] - columns["t"])
    return {name: columns[name][kept] for name in COLUMNS if name in columns}, int((~kept).sum())


def cast(name: str, values: object, where: str, path: Path) -> Array:
    """Turn foreign values into the type of a column.

    Raises:
        DataError: Where that would change a value, or the shape is wrong.
    """
    column = COLUMNS[name]
    dtype = np.dtype(column.dtype)
    try:
        array = np.asarray(values)
        if array.dtype == object:
            array = np.array(array.tolist())
        if array.dtype.kind not in "fiub":
            raise ValueError
    except (ValueError, TypeError):
        raise DataError("it should hold numbers, equally many in each row", path, column=where) from None
    if array.ndim != (1 if column.width is None else 2):
        shape = "one number per row" if column.width is None else "an array of numbers per row"
        raise DataError(f"it should hold {shape}, but its shape is {array.shape}", path, column=where)
    if dtype.kind == "f":
        return array.astype(dtype)
    with np.errstate(invalid="ignore"):
        converted = array.astype(dtype)
    if not np.array_equal(converted, array):
        words = "true and false" if dtype.kind == "b" else "integers"
        raise DataError(f"it should hold {words}", path, column=where)
    return converted


def known_environment(name: str, config: Mapping[str, Any]) -> EnvironmentCard | None:
    """The card of an environment of ours; None where the data is of another one.

    Raises:
        UserError: Where another one is configured.
    """
    if name in env_names():
        return environment_card(make_env(name, 1, **config))
    if config:
        raise UserError(
            f"env_config was given, but there is no environment {name!r}; there are {', '.join(env_names())}"
        )
    return None


def foreign_environment(
    name: str, rows: Mapping[str, Mapping[str, Array]], obs_names: tuple[str, ...], num_actions: int | None
) -> EnvironmentCard:
    """The card of an environment that is known by its data only: ranges are those of the data."""
    obs = [columns[key] for columns in rows.values() for key in ("obs", "new_obs") if key in columns]
    actions = max(int(columns["actions"].max(initial=0)) for columns in rows.values()) + 1
    return EnvironmentCard(
        name=name,
        config={},
        agents=tuple(rows),
        obs_low=tuple(np.min([values.min(0) for values in obs], axis=0).tolist()),
        obs_high=tuple(np.max([values.max(0) for values in obs], axis=0).tolist()),
        obs_names=obs_names,
        num_actions=num_actions or actions,
    )


def write_dataset(
    out: Path,
    rows: Mapping[str, Mapping[str, Array]],
    environment: EnvironmentCard,
    source: Path,
    locate: Callable[[str, int, int], str],
) -> Card:
    """Write a data set from each agent's rows, whole or not at all.

    Args:
        out: Folder to write.
        rows: Columns by agent; see `fill` for those that may be absent.
        environment: Where the data comes from.
        source: The file or folder that the rows were read from.
        locate: Says where in the source the row of an agent, episode and step is.

    Raises:
        DataError: At a wrong value, naming where in the source it is.
        UserError: Where `out` holds something already.
    """
    filled, dropped = {}, {}
    for agent, columns in rows.items():
        if agent not in environment.agents:
            raise DataError(f"unknown agent {agent!r}; agents are {', '.join(environment.agents)}", source)
        for name in ("obs", "action_mask"):
            width = environment.obs_size if name == "obs" else environment.num_actions
            if name in columns and columns[name].shape[1] != width:
                message = f"its rows have {columns[name].shape[1]} values, but {environment.name} has {width}"
                raise DataError(message, source, column=f"{agent}/{name}")
        filled[agent], dropped[agent] = fill(columns, environment.num_actions)
        if problem := find_problem(filled[agent], environment):
            _raise(problem, agent, filled[agent], source, locate)
    if not any(len(columns["t"]) for columns in filled.values()):
        raise DataError(
            "no transition could be made of it; a row needs a next one in its episode, or to end it", source
        )
    card = _card(filled, dropped, environment, source)
    with replaced_when_whole(out) as folder, DatasetWriter(folder, card) as writer:
        for fragment in _fragments(filled):
            writer.write(fragment.line())
        return writer.close()


def _raise(problem: Problem, agent: str, rows: Columns, source: Path, locate: Callable[[str, int, int], str]) -> None:
    where = locate(agent, int(rows["eps_id"][problem.row]), int(rows["t"][problem.row]))
    raise DataError(f"{where}: {problem.message}", source, column=f"{agent}/{problem.column}")


def _card(rows: dict[str, Columns], dropped: dict[str, int], environment: EnvironmentCard, source: Path) -> Card:
    names = {frozenset(columns) for columns in rows.values()}
    if len(names) > 1:
        differing = sorted(frozenset.union(*names) - frozenset.intersection(*names))
        raise DataError(f"only some agents have {', '.join(differing)}", source)
    columns = next(iter(rows.values()))
    agents = {}
    for agent in (agent for agent in environment.agents if agent in rows):
        returns = _returns(rows[agent]["eps_id"], rows[agent]["rewards"])
        agents[agent] = AgentCard(len(rows[agent]["t"]), dropped[agent], *returns)
    pairs = [np.stack([part["eps_id"], part["t"]], 1) for part in rows.values()]
    steps = np.unique(np.concatenate(pairs), axis=0)
    return Card(
        complete=False,
        kind="joint",
        environment=environment,
        rows="all" if "acting" in columns else "decisions",
        columns=tuple(name for name in COLUMNS if name in REQUIRED or name in columns),
        agents=agents,
        action_prob="exact" if "action_prob" in columns else "absent",
        steps=len(steps),
        episodes=len(np.unique(steps[:, 0])),
        versions=versions(),
        source=str(source),
    )


def _returns(episodes: IntArray, rewards: Array) -> tuple[float, float] | tuple[None, None]:
    if not len(episodes):
        return None, None
    _, number = np.unique(episodes, return_inverse=True)
    sums = np.bincount(number, weights=rewards)
    return float(sums.mean()), float(sums.std())


def _fragments(rows: dict[str, Columns]) -> Iterator[Fragment]:
    """All rows by episode, in lines of `FRAGMENT_ROWS` environment steps."""
    agents = tuple(rows)
    index = np.concatenate([np.full(len(rows[agent]["t"]), i) for i, agent in enumerate(agents)])
    columns = {name: np.concatenate([part[name] for part in rows.values()]) for name in rows[agents[0]]}
    columns[AGENT] = index
    _, step = np.unique(columns["t"], return_inverse=True)
    for window in range(int(step.max()) // FRAGMENT_ROWS + 1):
        chosen = step // FRAGMENT_ROWS == window
        part = {name: values[chosen] for name, values in columns.items()}
        pairs = np.unique(np.stack([part["eps_id"], part["t"]], 1), axis=0)
        episodes, counts = np.unique(pairs[:, 0], return_counts=True)
        yield from cut(agents, part, dict(zip(episodes.tolist(), counts.tolist(), strict=True)), None)
