"""Logged decisions as estimators read them: one log of the team, or one of each agent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from rllib_wireless.data.card import Card, read_card
from rllib_wireless.data.format import Columns
from rllib_wireless.data.store import client_folders, load_dataset
from rllib_wireless.envs.base import BoolArray, EnvStep, FloatArray, IntArray
from rllib_wireless.envs.random import StepRandom
from rllib_wireless.errors import DataError, UserError
from rllib_wireless.policies.portable import PortablePolicy

View = Literal["auto", "team", "agents"]
Floats = npt.NDArray[np.float64]

_UNITS = 50
_CHUNK = 4096  # decisions that a policy takes at once


@dataclass(frozen=True)
class Log:
    """Rows of a team whose members decide at the same steps; one agent alone is a team, too.

    Rows are ordered by episode, stream and time.

    Attributes:
        agents: Names, N of them.
        obs: [T, N, D].
        action_mask: [T, N, A].
        actions: [T, N].
        rewards: Mean over the agents of what the interval brought, [T].
        discount: What the value of the next decision counts: gamma ** duration, 0 where the episode terminated; [T].
        new_obs: [T, N, D].
        new_action_mask: [T, N, A].
        action_prob: Recorded probabilities of the actions, [T, N]; or None.
        starts: Whether a value is wanted of the row, [T]: all rows where episodes never end, else the first of each.
        goes_on: Whether the next row is the next decision, [T].
        unit: Which unit of resampling the row belongs to, [T].
    """

    agents: tuple[str, ...]
    obs: FloatArray
    action_mask: BoolArray
    actions: IntArray
    rewards: Floats
    discount: Floats
    new_obs: FloatArray
    new_action_mask: BoolArray
    action_prob: FloatArray | None
    starts: BoolArray
    goes_on: BoolArray
    unit: IntArray

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True)
class Logs:
    """All that is known of how the network was run.

    Attributes:
        card: Of the data set, or of one agent's.
        parts: One log of the team, or one of each agent.
        endless: Whether episodes never end but by a limit of time.
        gamma: Discount per unit of time.
        num_units: Units that are resampled: episodes, or where those are few stretches of them.
    """

    card: Card
    parts: tuple[Log, ...]
    endless: bool
    gamma: float
    num_units: int

    @property
    def team(self) -> bool:
        """Whether all agents are in one log."""
        return len(self.parts) == 1 and len(self.parts[0].agents) == len(self.card.environment.agents)

    @property
    def num_rows(self) -> int:
        """Decisions of the team, or of all agents."""
        return sum(len(part) for part in self.parts)


def read_logs(path: Path, view: View, gamma: float | None) -> Logs:
    """Read a data set.

    Args:
        path: Folder of a joint data set, of one agent's, or of one folder per agent.
        view: `team` needs a joint data set in which all agents have rows for the same steps; `auto` takes it where it can.
        gamma: Discount per unit of time; the environment's own where None.

    Raises:
        UserError: Where the data cannot be read, or not as a team's.
    """
    card = read_card(path)
    rows, together = _rows(path, card, view)
    discount = card.environment.gamma if gamma is None else gamma
    endless = not any(columns["terminateds"].any() for columns in rows.values())
    units, num_units = _units(list(rows.values()))
    parts = tuple(
        _log(agents, columns, unit, discount, endless)
        for agents, columns, unit in zip(together, rows.values(), units, strict=True)
    )
    return Logs(card, parts, endless, discount, num_units)


def decide(policy: PortablePolicy, obs: FloatArray, action_mask: BoolArray, seed: int) -> IntArray:
    """What a policy would do, [T, N], at observations [T, N, D]; never what the masks [T, N, A] forbid."""
    pieces = []
    for number, start in enumerate(range(0, len(obs), _CHUNK)):
        step = as_step(obs[start : start + _CHUNK], action_mask[start : start + _CHUNK])
        policy.reset(np.arange(len(step.obs)))
        pieces.append(policy.act(step, StepRandom(seed + (number << 32), *step.acting.shape)).copy())
    actions = np.concatenate(pieces) if pieces else np.zeros(obs.shape[:2], np.int64)
    legal = np.take_along_axis(action_mask, actions[..., None], -1)[..., 0]
    return np.where(legal, actions, 0)


def as_step(obs: FloatArray, action_mask: BoolArray) -> EnvStep:
    """Observations [B, N, D] and masks [B, N, A] as a step in which everyone decides."""
    shape = obs.shape[:2]
    zero, never = np.zeros(shape, np.float32), np.zeros(shape[0], np.bool_)
    return EnvStep(
        obs=np.ascontiguousarray(obs, np.float32),
        action_mask=np.ascontiguousarray(action_mask),
        acting=np.ones(shape, np.bool_),
        reward=zero,
        cost=zero,
        terminated=never,
        truncated=never,
        duration=np.zeros(shape[0], np.float32),
    )


def _rows(path: Path, card: Card, view: View) -> tuple[dict[str, Columns], list[tuple[str, ...]]]:
    """Columns {name: [T, N, ...]} of each log, and whose they are."""
    if card.kind == "joint" and view != "agents":
        dataset = load_dataset(path)
        try:
            return {"team": dataset.aligned()}, [dataset.agents]
        except DataError:
            if view == "team":
                raise UserError(
                    f"{path}: its agents decide at different steps, so there are no joint decisions; collect with "
                    "`--rows all`, or estimate with view=agents"
                ) from None
    if view == "team":
        raise UserError(f"{path} holds the data of one agent a folder, of which no joint decisions can be made")
    if card.kind == "clients":
        data = {agent: load_dataset(folder).rows[agent] for agent, folder in client_folders(path).items()}
    else:
        data = load_dataset(path).rows
    rows = {agent: {name: values[:, None] for name, values in columns.items()} for agent, columns in data.items()}
    return rows, [(agent,) for agent in rows]


def _log(agents: tuple[str, ...], rows: Columns, unit: IntArray, gamma: float, endless: bool) -> Log:
    first = {name: rows[name][:, 0] for name in ("eps_id", "t", "terminateds", "duration")}
    # With a row for every step, agents may hold different streams in it, and steps are what follow each other.
    stream = rows["stream"][:, 0] if "stream" in rows and len(agents) == 1 else np.zeros(len(unit), np.int64)
    order = np.lexsort((first["t"], stream, first["eps_id"]))
    episode, stream = first["eps_id"][order], stream[order]
    same = (episode[1:] == episode[:-1]) & (stream[1:] == stream[:-1])
    rewards = rows["rewards"].mean(1, dtype=np.float64)
    discount = np.where(first["terminateds"], 0.0, gamma ** first["duration"].astype(np.float64))
    probability = rows.get("action_prob")
    return Log(
        agents=agents,
        obs=rows["obs"][order],
        action_mask=rows["action_mask"][order],
        actions=rows["actions"][order],
        rewards=rewards[order],
        discount=discount[order],
        new_obs=rows["new_obs"][order],
        new_action_mask=rows["new_action_mask"][order],
        action_prob=None if probability is None else probability[order],
        starts=np.ones(len(order), np.bool_) if endless else np.append(True, ~same)[: len(order)],
        goes_on=np.append(same, False)[: len(order)],
        unit=unit[order],
    )


def _units(logs: Sequence[Columns]) -> tuple[list[IntArray], int]:
    """Numbers of the units of resampling of all logs' rows, and how many there are.

    Agents of an episode are resampled together. Few long episodes are cut into stretches of equal length.
    """
    episode = np.concatenate([rows["eps_id"][:, 0] for rows in logs])
    t = np.concatenate([rows["t"][:, 0] for rows in logs])
    distinct, number = np.unique(episode, return_inverse=True)
    length = np.zeros(len(distinct), np.int64)
    np.maximum.at(length, number, t + 1)
    span = length.max() if len(distinct) >= _UNITS else max(int(length.sum()) // _UNITS, 1)
    _, unit = np.unique(np.stack([number, t // span]), axis=1, return_inverse=True)
    cuts = np.cumsum([len(rows["t"]) for rows in logs])[:-1]
    return np.split(unit.reshape(-1), cuts), int(unit.max()) + 1
