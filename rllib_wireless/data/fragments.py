"""Rows put in order and cut into fragments: what one line of a file holds."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rllib_wireless.data.format import STATE, Columns, encode
from rllib_wireless.envs.base import BoolArray, IntArray

AGENT = "agent"
"""Column with the index of a row's agent, before rows are grouped by agent."""


@dataclass
class Fragment:
    """Rows of one joint episode that go into one line.

    Args:
        steps: Environment steps that the fragment covers.
        rows: {agent: columns}; agents without a row are absent.
        state: Joint state, or None where it is not recorded.
    """

    steps: int = 0
    rows: dict[str, Columns] = field(default_factory=dict)
    state: Columns | None = None

    def line(self) -> bytes:
        """All of it as one line."""
        return encode(self.steps, self.rows if self.state is None else {**self.rows, STATE: self.state})

    def line_of(self, agent: str) -> bytes:
        """What this agent may know, as one line."""
        return encode(self.steps, {agent: self.rows[agent]} if agent in self.rows else {})


def cut(
    agents: tuple[str, ...], rows: Columns | None, steps: Mapping[int, int], state: Columns | None
) -> list[Fragment]:
    """Cut rows into one fragment per episode, ordered by episode.

    Args:
        agents: Names of the agents.
        rows: Columns of all agents' rows in any order, with `AGENT`.
        steps: Environment steps by episode.
        state: Joint state, in any order.
    """
    fragments = {episode: Fragment(count) for episode, count in steps.items()}
    if rows is not None:
        rows = _sorted(rows, "eps_id", AGENT, "t", "stream")
        columns = {name: values for name, values in rows.items() if name != AGENT}
        for part in _runs(rows["eps_id"], rows[AGENT]):
            fragment = fragments.setdefault(int(rows["eps_id"][part.start]), Fragment())
            fragment.rows[agents[rows[AGENT][part.start]]] = _slice(columns, part)
    if state is not None:
        state = _sorted(state, "eps_id", "t")
        for part in _runs(state["eps_id"]):
            fragment = fragments.setdefault(int(state["eps_id"][part.start]), Fragment())
            fragment.state = _slice(state, part)
    return [fragments[episode] for episode in sorted(fragments)]


def _sorted(columns: Columns, *keys: str) -> Columns:
    order = np.lexsort([columns[key] for key in reversed(keys) if key in columns])
    return {name: values[order] for name, values in columns.items()}


def _slice(columns: Columns, part: slice) -> Columns:
    return {name: values[part] for name, values in columns.items()}


def _runs(*keys: IntArray) -> list[slice]:
    """Slices in which all keys are constant."""
    changes: BoolArray = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(keys[0])]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges) if stop > start]
