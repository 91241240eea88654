"""What the values of a data set must be, beyond their types."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_wireless.data.card import Card, EnvironmentCard
from rllib_wireless.data.format import STATE, Array, Columns, columns_of
from rllib_wireless.envs.random import jit
from rllib_wireless.errors import DataError


@dataclass(frozen=True)
class Problem:
    """A wrong value: its column, its row, and what is wrong."""

    column: str
    row: int
    message: str


def check_structure(batch: str, columns: Columns, card: Card) -> None:
    """Check that a batch may be here, and that it has the columns that the card says, all equally long.

    Raises:
        DataError: Naming the column.
    """
    if batch == STATE:
        if card.kind == "client":
            raise DataError("a client's folder must not hold the joint state", column=STATE)
        if card.state_size is None:
            raise DataError("the card says that there is no joint state", column=STATE)
        expected = tuple(columns_of(STATE))
        widths = {"obs": card.state_size}
    else:
        if batch not in card.agents:
            only = "this client's folder may only hold" if card.kind == "client" else "agents are"
            raise DataError(f"unknown agent {batch!r}; {only} {', '.join(card.agents)}", column=batch)
        expected = card.columns
        widths = {"obs": card.environment.obs_size, "actions": card.environment.num_actions}
    if columns.keys() != set(expected):
        for name in expected:
            if name not in columns:
                raise DataError("the column is missing", column=f"{batch}/{name}")
        surplus = next(name for name in columns if name not in expected)
        raise DataError(f"the card has no such column; it has {', '.join(expected)}", column=f"{batch}/{surplus}")
    known, length = columns_of(batch), len(columns["t"])
    for name, values in columns.items():
        if len(values) != length:
            raise DataError(f"it has {len(values)} rows, but t has {length}", column=f"{batch}/{name}")
        width = known[name].width
        if width is not None and values.shape[1] != widths[width]:
            problem = f"its rows have {values.shape[1]} values, but the card says {widths[width]}"
            raise DataError(problem, column=f"{batch}/{name}")


def find_problem(rows: Columns, environment: EnvironmentCard) -> Problem | None:
    """The first wrong value in an agent's rows, or None."""
    return next(_problems(rows, environment), None)


def find_state_problem(state: Columns) -> Problem | None:
    """The first wrong value in the joint state, or None."""
    return _finite("obs", state["obs"])


def _problems(rows: Columns, env: EnvironmentCard) -> Iterator[Problem]:
    for name, values in rows.items():
        if values.dtype.kind == "f" and (problem := _finite(name, values)):
            yield problem
    low, high = np.array(env.obs_low, np.float32), np.array(env.obs_high, np.float32)
    for name in ("obs", "new_obs"):
        place = _first_outside(rows[name], low, high)
        if place >= 0:
            row, i = divmod(place, env.obs_size)
            allowed = f"{env.obs_names[i]} lies in [{low[i]:g}, {high[i]:g}]"
            yield Problem(name, row, f"{rows[name][row, i]:.9g} is out of range: {allowed}")
    actions = rows["actions"]
    out_of_range = (actions < 0) | (actions >= env.num_actions)
    if problem := _where("actions", actions, out_of_range, f"actions are 0 to {env.num_actions - 1}"):
        yield problem
        return
    forbidden = ~rows["action_mask"][np.arange(len(actions)), actions]
    for name, wrong, allowed in (
        ("action_mask", rows["action_mask"].sum(1) == 0, "a mask allows at least one action"),
        ("new_action_mask", rows["new_action_mask"].sum(1) == 0, "a mask allows at least one action"),
        ("actions", forbidden, "the action mask of the row forbids it"),
        ("duration", rows["duration"] < 0, "it is at least 0"),
        ("eps_id", rows["eps_id"] < 0, "it is at least 0"),
        ("t", rows["t"] < 0, "it is at least 0"),
        ("new_t", rows["new_t"] <= rows["t"], "it is after t"),
    ):
        if problem := _where(name, rows[name], wrong, allowed):
            yield problem
    if "action_prob" in rows:
        prob = rows["action_prob"]
        if problem := _where("action_prob", prob, ~((prob > 0) & (prob <= 1)), "it lies in (0, 1]"):
            yield problem
    if "stream" in rows:
        stream = rows["stream"]
        if problem := _where(
            "stream", stream, (stream < 0) | (stream >= env.num_streams), f"streams are 0 to {env.num_streams - 1}"
        ):
            yield problem


def _finite(name: str, values: Array) -> Problem | None:
    table = values[:, None] if values.ndim == 1 else values
    largest = np.full(table.shape[1], np.finfo(np.float32).max, np.float32)
    place = _first_outside(table, -largest, largest)
    return None if place < 0 else Problem(name, place // table.shape[1], "it holds a number that is not finite")


@jit
def _first_outside(values: Any, low: Any, high: Any) -> Any:
    """Place (row * D + column) of the first value of [T, D] that is not in [low, high], or -1; NaN never is."""
    for row in range(values.shape[0]):
        for i in range(values.shape[1]):
            if not (low[i] <= values[row, i] <= high[i]):
                return row * values.shape[1] + i
    return -1


def _where(name: str, values: Array, wrong: Array, allowed: str) -> Problem | None:
    if not wrong.any():
        return None
    row = int(np.flatnonzero(wrong)[0])
    return Problem(name, row, f"{values[row].tolist()} is wrong: {allowed}")
