"""Rows of logs as rows of a data set: each cell is read, each value is checked, and what is wrong is said of its line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rllib_wireless.data.card import EnvironmentCard
from rllib_wireless.data.format import Array, Columns
from rllib_wireless.data.import_cells import Cells, choices, flags, integers, numbers, shown, steps, words
from rllib_wireless.data.import_mapping import Feature, ImportMapping, features, weights
from rllib_wireless.data.import_source import Piece, Reject
from rllib_wireless.envs.base import IntArray
from rllib_wireless.errors import ConfigError, DataError

LINE, AGENT, EPISODE = "line", "agent", "episode"
"""Columns of rows that are on their way: where each comes from, whose it is, and its episode as the logs have it."""

_MOST_AGENTS = 10_000
_LARGEST = float(np.finfo(np.float32).max)


class RowReader:
    """Reads pieces of logs.

    Args:
        mapping: Which column is what.
        names: The columns that there are.
        path: Where they come from.
        environment: The environment, where it is one of ours.
        num_actions: Number of actions A.

    Attributes:
        agents: Names of the agents so far; a row holds the place of its own.
        obs_names: Names of the columns of the observation.

    Raises:
        ConfigError: At a column that is not there.
        DataError: Where observation or mask do not fit the environment.
    """

    def __init__(
        self,
        mapping: ImportMapping,
        names: Sequence[str],
        path: Path,
        environment: EnvironmentCard | None,
        num_actions: int,
    ) -> None:
        self._m, self._path, self._environment, self._num_actions = mapping, path, environment, num_actions
        for column, role in mapping.roles():
            if names.count(column) != 1:
                problem = "has no such column" if column not in names else "has several columns of that name"
                raise ConfigError(mapping.owner, role, column, f"{path} {problem}; it has {', '.join(names)}")
        self.columns = list(dict.fromkeys(column for column, _ in mapping.roles()))
        self.agents: list[str] = []
        self._places: dict[str, int] = {}
        self._episodes: dict[str, int] = {}
        self._anchor: int | None = None
        self._obs = features(mapping.observations)
        self.obs_names = tuple(name for feature in self._obs for name in _names(feature))
        self.low, self.high = self._bounds(self._obs)
        if mapping.next_observations is not None:
            self._check_width(
                "next_observations", len(self._bounds(features(mapping.next_observations))[0]), len(self.low)
            )
        if environment is not None:
            self._check_width("observations", len(self.low), environment.obs_size, environment.name)
            self.low = np.maximum(self.low, environment.obs_low)
            self.high = np.minimum(self.high, environment.obs_high)
        if mapping.action_masks is not None:
            self._check_width("action_masks", len(mapping.action_masks), num_actions)

    def read(self, piece: Piece) -> tuple[Columns, list[Reject]]:
        """The rows of a piece that are in order, and what is wrong with the others."""
        m, self._piece = self._m, piece
        self._reasons: list[tuple[str, str | None]] = []
        self._reason: IntArray = np.full(len(piece.lines), -1, np.int64)
        found: Columns = {LINE: piece.lines, AGENT: self._agent(), EPISODE: self._episode(), "t": self._time()}
        found["obs"] = self._observation(self._obs)
        if m.next_observations is not None:
            found["new_obs"] = self._observation(features(m.next_observations))
        found["actions"] = self._actions()
        found["rewards"] = self._sum(weights(m.rewards))
        if m.costs is not None:
            found["costs"] = self._sum(weights(m.costs))
        for name in ("terminateds", "truncateds"):
            if (column := getattr(m, name)) is not None:
                found[name] = self._take(column, flags(piece.table[column]), "it should hold true or false")
        if m.duration is not None:
            found["duration"] = self._number(m.duration, 0.0, _LARGEST)
        if m.action_prob is not None:
            found["action_prob"] = self._number(m.action_prob, float(np.nextafter(np.float32(0), np.float32(1))), 1.0)
        if m.action_masks is not None:
            masks = [self._take(c, flags(piece.table[c]), "it should hold true or false") for c in m.action_masks]
            found["action_mask"] = np.stack(masks, axis=1)
            allowed = found["action_mask"][np.arange(len(piece.lines)), found["actions"]]
            self._refuse(~allowed, "the action mask forbids the action", None)
        good = self._reason < 0
        if good.all():
            return found, list(piece.rejects)
        return {name: values[good] for name, values in found.items()}, [*piece.rejects, *self._rejects()]

    def _agent(self) -> IntArray:
        m = self._m
        if m.agent is None:
            only = next(iter(m.agents.values()), self._environment.agents[0] if self._environment else "agent_0")
            return np.full(len(self._piece.lines), self._place(only), np.int64)
        number, names = words(self._piece.table[m.agent])
        self._refuse(number < 0, f"column {m.agent}: it is empty", m.agent)
        known = [m.agents.get(name, name) for name in names]
        if self._environment is not None:
            allowed = self._environment.agents
            for i, name in enumerate(known):
                if name not in allowed:
                    self._refuse(number == i, f"unknown agent {name!r}; agents are {', '.join(allowed)}", m.agent)
            known = [name if name in allowed else allowed[0] for name in known]
        return np.array([*(self._place(name) for name in known), 0], np.int64)[number]

    def _place(self, agent: str) -> int:
        if agent not in self._places:
            if len(self._places) == _MOST_AGENTS:
                raise DataError(f"column {self._m.agent} names more than {_MOST_AGENTS:,} agents", self._path)
            self._places[agent] = len(self._places)
            self.agents.append(agent)
        return self._places[agent]

    def _episode(self) -> IntArray:
        """Episodes may be numbers or names; here they are numbers in the order in which they first appear."""
        if self._m.episode is None:
            return np.zeros(len(self._piece.lines), np.int64)
        number, names = words(self._piece.table[self._m.episode])
        self._refuse(number < 0, f"column {self._m.episode}: it is empty", self._m.episode)
        places = [self._episodes.setdefault(name, len(self._episodes)) for name in names]
        return np.array([*places, 0], np.int64)[number]

    def _time(self) -> IntArray:
        clock = self._m.time
        if isinstance(clock, str):
            t: IntArray = self._take(clock, integers(self._piece.table[clock]), "it should hold integers")
            self._refuse(t < 0, f"column {clock}: it should be at least 0", clock)
            return t
        cells, self._anchor = steps(self._piece.table[clock.column], clock, self._anchor)
        wanted = "dates and times, as ISO 8601 writes them" if clock.unit == "iso" else f"times in {clock.unit}"
        return self._take(clock.column, cells, f"it should hold {wanted}")

    def _observation(self, fields: list[Feature]) -> Array:
        obs = np.zeros((len(self._piece.lines), len(self.low)), np.float32)
        start = 0
        for feature in fields:
            column = self._piece.table[feature.column]
            if feature.values is None:
                low, high = float(self.low[start]), float(self.high[start])
                obs[:, start] = self._number(feature.column, low, high, feature.scale)
                start += 1
                continue
            chosen = self._take(feature.column, choices(column, feature.values), _allowed(feature.values))
            obs[np.arange(len(obs)), start + chosen] = 1.0
            start += len(feature.values)
        return obs

    def _actions(self) -> IntArray:
        given, table = self._m.actions, self._piece.table
        if isinstance(given, str):
            chosen = self._take(given, integers(table[given]), "it should hold integers")
        else:
            chosen = self._take(given.column, choices(table[given.column], given.values), _allowed(given.values))
        column = given if isinstance(given, str) else given.column
        outside = (chosen < 0) | (chosen >= self._num_actions)
        self._refuse(outside, f"column {column}: actions are 0 to {self._num_actions - 1}", column)
        return np.where(outside, 0, chosen)

    def _sum(self, terms: dict[str, float]) -> Array:
        total = np.zeros(len(self._piece.lines))
        for column, weight in terms.items():
            total += self._take(column, numbers(self._piece.table[column]), "it should hold numbers") * weight
        column = next(iter(terms))
        self._refuse(~(np.abs(total) <= _LARGEST), f"column {column}: it holds a number that is not finite", column)
        return _single(total)

    def _number(self, column: str, low: float, high: float, scale: float = 1.0) -> Array:
        values = self._take(column, numbers(self._piece.table[column]), "it should hold numbers") * scale
        finite = np.abs(values) <= _LARGEST
        self._refuse(~finite, f"column {column}: it holds a number that is not finite", column)
        single = _single(np.where(finite, values, 0.0))
        inside = (single >= np.float32(low)) & (single <= np.float32(high))
        self._refuse(~inside, f"column {column}: it should lie in [{low:g}, {high:g}]", column)
        return single

    def _take(self, column: str, cells: Cells, wanted: str) -> Array:
        if cells.problem.any():
            self._refuse(cells.problem == 1, f"column {column}: it is empty", column)
            self._refuse(cells.problem == 2, f"column {column}: {wanted}", column)
            return np.where(cells.problem == 0, cells.values, np.zeros(1, cells.values.dtype))
        return cells.values

    def _refuse(self, wrong: Array, reason: str, column: str | None) -> None:
        """Reject rows, each for the first reason that there is."""
        if wrong.any():
            self._reason[wrong & (self._reason < 0)] = len(self._reasons)
            self._reasons.append((reason, column))

    def _rejects(self) -> list[Reject]:
        found = []
        for row in np.flatnonzero(self._reason >= 0).tolist():
            reason, column = self._reasons[self._reason[row]]
            value = "" if column is None else shown(self._piece.table[column], row)
            found.append(Reject(int(self._piece.lines[row]), reason, value[:200]))
        return found

    def _check_width(self, field: str, given: int, wanted: int, name: str = "the mapping") -> None:
        if given != wanted:
            raise DataError(f"its rows have {given} values, but {name} has {wanted}", self._path, column=field)

    @staticmethod
    def _bounds(fields: list[Feature]) -> tuple[Array, Array]:
        low = [[f.low] if f.values is None else [0.0] * len(f.values) for f in fields]
        high = [[f.high] if f.values is None else [1.0] * len(f.values) for f in fields]
        return np.concatenate(low), np.concatenate(high)


def _names(feature: Feature) -> list[str]:
    return [feature.column] if feature.values is None else [f"{feature.column}_{value}" for value in feature.values]


def _allowed(values: Sequence[str]) -> str:
    plain = list(values) == [str(i) for i in range(len(values))]
    return f"it should hold {f'0 to {len(values) - 1}' if plain else ', '.join(values)}, as the mapping says"


def _single(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
