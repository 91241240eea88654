"""Data sets in memory: what training opens."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rllib_wireless import storage
from rllib_wireless.data import cache
from rllib_wireless.data.card import Card, EnvironmentCard, check_environment, environment_card, read_card
from rllib_wireless.data.format import CARD, STATE, Columns
from rllib_wireless.data.reader import Content, data_files, read_files
from rllib_wireless.data.validate import check_structure
from rllib_wireless.envs.base import BatchedEnv, FloatArray, IntArray
from rllib_wireless.errors import DataError


@dataclass(frozen=True)
class Dataset:
    """A data set in memory, rows in the order of the files (by time within a line).

    Args:
        path: Its folder, or its URI.
        card: Its card.
        rows: {agent: {column: [T, ...]}}; columns and their types are in `data.format.COLUMNS`.
        joint_state: `eps_id`, `t` and `obs` [T, S] of the joint state, or None. Rows point to it by `t` and `new_t`.
    """

    path: Path
    card: Card
    rows: dict[str, Columns]
    joint_state: Columns | None

    @property
    def agents(self) -> tuple[str, ...]:
        """The recorded agents, in the order of the environment."""
        return tuple(self.rows)

    @property
    def num_transitions(self) -> int:
        """Rows of all agents."""
        return sum(len(rows["t"]) for rows in self.rows.values())

    def aligned(self) -> Columns:
        """All agents' rows side by side, {column: [T, N, ...]}.

        Raises:
            DataError: Where the agents' rows do not belong to the same steps.
        """
        first = self.rows[self.agents[0]]
        # With a row for every step, agents may hold different streams in it.
        keys = ("eps_id", "t") if self.card.rows == "all" else ("eps_id", "t", "stream")
        for agent, rows in self.rows.items():
            for key in keys:
                if key in rows and not np.array_equal(rows[key], first[key]):
                    problem = (
                        f"the rows of {agent} and {self.agents[0]} belong to different steps, but this algorithm needs "
                        "aligned agents; collect with `--rows all`"
                    )
                    raise DataError(problem, self.path)
        return {name: np.stack([rows[name] for rows in self.rows.values()], axis=1) for name in first}

    def side_by_side(self) -> Columns:
        """All agents' rows whatever their steps, {column: [T, N, ...]}; those of agents with fewer are repeated."""
        most = max(len(rows["t"]) for rows in self.rows.values())
        return {
            name: np.stack(
                [np.resize(rows[name], (most, *rows[name].shape[1:])) for rows in self.rows.values()], axis=1
            )
            for name in self.rows[self.agents[0]]
        }

    def state_at(self, eps_id: IntArray, t: IntArray) -> FloatArray:
        """The joint state at these steps, [T, S].

        Raises:
            DataError: Where the data set has none, or none of such a step.
        """
        if self.joint_state is None:
            raise DataError("it holds no joint state", self.path)
        episodes, times, values = (self.joint_state[name] for name in ("eps_id", "t", "obs"))
        if not len(times):
            raise DataError("its joint state is empty", self.path)
        # One number per step, so that one binary search finds it; numbering the values first keeps it from overflowing.
        _, episode = np.unique(np.concatenate([episodes, eps_id]), return_inverse=True)
        distinct, time = np.unique(np.concatenate([times, t]), return_inverse=True)
        keys, wanted = np.split(episode * len(distinct) + time, [len(times)])
        order = np.argsort(keys, kind="stable")
        found = order[np.searchsorted(keys, wanted, sorter=order).clip(max=len(keys) - 1)]
        missing = np.flatnonzero(keys[found] != wanted)
        if len(missing):
            e, step = eps_id[missing[0]], t[missing[0]]
            raise DataError(f"the joint state lacks step {step} of episode {e}, which rows point to", self.path)
        state: FloatArray = values[found]
        return state


def load_dataset(
    path: Path | str, *, environment: BatchedEnv | EnvironmentCard | None = None, use_cache: bool = True
) -> Dataset:
    """Load a data set, from the cache where it was read before.

    Args:
        path: Its folder, or its URI.
        environment: The environment that it should fit; another one's data is refused.
        use_cache: Whether to look into the cache and to write to it.

    Raises:
        DataError: Naming file, line and column of the first thing that is wrong.
    """
    card = read_card(path)
    if card.kind == "clients":
        example = storage.name(storage.join(path, next(iter(card.agents))))
        raise DataError(f"it holds one data set per agent; open one of them, for example {example}", storage.name(path))
    if environment is not None:
        wanted = environment_card(environment) if isinstance(environment, BatchedEnv) else environment
        check_environment(card, wanted, Path(path))
    folder = storage.local(path)
    entry = cache.entry_path(folder, data_files(folder, card)) if use_cache else None
    content = cache.load(entry) if entry is not None else None
    if content is None or not _fits(content, card):
        content = read_files(folder, card)
        if entry is not None:
            cache.save(entry, content)
    rows = {agent: {name: content.rows[agent][name] for name in card.columns} for agent in card.agents}
    return Dataset(Path(path), card, rows, content.state)


def client_folders(path: Path | str) -> dict[str, Path]:
    """The folders of a data set that was collected with `--split agents`, by agent; only cards are read.

    Raises:
        DataError: Where a folder is no client's, for example because it holds joint data.
    """
    folder = Path(path)
    children = storage.folders(folder)
    card = read_card(folder) if not children or storage.holds(folder, CARD) else None
    if card is not None and card.kind != "clients":
        raise DataError("it is not a folder of clients' data; collect with `--split agents`", folder)
    clients: dict[str, Path] = {}
    order: tuple[str, ...] = ()
    for child in children:
        own = read_card(child)
        if own.kind != "client":
            raise DataError("a client's folder must hold that agent's data alone, but this is joint data", child)
        (agent,) = own.agents
        if agent in clients:
            raise DataError(f"it is a second folder of {agent}, beside {clients[agent]}", child)
        clients[agent], order = child, own.environment.agents
    if card is not None:
        for agent in card.agents:
            if agent not in clients:
                raise DataError(f"the folder of {agent} is missing", folder)
    return {agent: clients[agent] for agent in sorted(clients, key=lambda a: order.index(a) if a in order else -1)}


def cell_folders(path: Path | str) -> dict[str, dict[str, Path]]:
    """The clients' folders of each cell in a folder of data sets that were collected with `--split agents`, by cell.

    A folder that is such a data set itself is one cell without a name.

    Raises:
        DataError: As `client_folders`, for any cell.
    """
    folder = Path(path)
    if storage.holds(folder, CARD):
        return {"": client_folders(folder)}
    children = storage.folders(folder)
    if not any(storage.holds(child, CARD) and read_card(child).kind == "clients" for child in children):
        return {"": client_folders(folder)}
    return {storage.title(child): client_folders(child) for child in children}


def _fits(content: Content, card: Card) -> bool:
    """Whether what the cache gave is what the card says, which only a damaged entry is not."""
    if content.rows.keys() != card.agents.keys() or (content.state is None) != (card.state_size is None):
        return False
    batches = content.rows if content.state is None else {**content.rows, STATE: content.state}
    try:
        for name, columns in batches.items():
            check_structure(name, columns, card)
    except (DataError, KeyError, IndexError):
        return False
    return True
