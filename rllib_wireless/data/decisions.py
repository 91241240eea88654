"""All agents' decisions of a joint log in one table, each with the one that follows it.

Where streams pass from agent to agent, as products of a plant do, the decision that follows is the next one about the same
product, whoever makes it; elsewhere an agent's own next one.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_wireless.data.format import Array, Columns
from rllib_wireless.data.store import Dataset
from rllib_wireless.envs.base import BoolArray, FloatArray, IntArray
from rllib_wireless.envs.random import jit
from rllib_wireless.envs.sharing import SharingEnv, shared_columns

Floats = npt.NDArray[np.float64]

_COLUMNS = ("eps_id", "t", "new_t", "actions", "rewards", "terminateds", "action_mask", "duration")


class Decisions(NamedTuple):
    """Decisions of N agents.

    Attributes:
        agent: Who decides, [T].
        episode: [T].
        t: Step of the episode, [T].
        stream: What it is about; without streams the agent itself, [T].
        actions: [T].
        mask: Legal actions, [T, A].
        blocks: All agents' local states, [T, N, L].
        shown: Their compressed states side by side, [T, N * C].
        following: Row of the decision that follows in the stream, [T]; -1 for none.
        rewards: What is earned until then, [T]: where another agent decides next, the reward's share by time.
        known: Whether what follows is known, [T]; it is not where an episode was cut off.
    """

    agent: IntArray
    episode: IntArray
    t: IntArray
    stream: IntArray
    actions: IntArray
    mask: BoolArray
    blocks: FloatArray
    shown: FloatArray
    following: IntArray
    rewards: Floats
    known: BoolArray

    @property
    def own(self) -> FloatArray:
        """Local states of those who decide, [T, L]."""
        return self.blocks[np.arange(len(self.agent)), self.agent]


def joint_decisions(dataset: Dataset, env: SharingEnv) -> Decisions:
    """The table of a joint data set with recorded states.

    Episodes in which it is unknown when a stream was passed on, since recording ended, are left out.
    """
    agent, rows = _side_by_side(dataset, env)
    passing = "stream" in rows
    left = _time_left(rows) if passing else np.zeros(len(agent))
    whole = ~np.isin(rows["eps_id"], rows["eps_id"][np.isnan(left)])
    agent, left, rows = agent[whole], left[whole], {name: column[whole] for name, column in rows.items()}
    stream = rows.get("stream", agent)
    following = _following(rows["eps_id"], stream, rows["t"])
    passed_on = (following >= 0) & (agent[following] != agent)
    share = np.where(passed_on, (left - left[following]) / np.maximum(rows["duration"], 1e-9), 1.0)
    state = dataset.state_at(rows["eps_id"], rows["t"])
    n, width = len(env.agents), sum(f.size for f in env.local_fields)
    blocks = state[:, : n * width].reshape(len(state), n, width)
    compressed = shared_columns(env.local_fields, "compressed")
    return Decisions(
        agent=agent,
        episode=rows["eps_id"],
        t=rows["t"],
        stream=stream,
        actions=rows["actions"],
        mask=rows["action_mask"],
        blocks=blocks,
        shown=blocks[:, :, compressed].reshape(len(blocks), n * len(compressed)),
        following=following,
        # A reward counts until its agent sees the stream again, which may be before it decides again.
        rewards=rows["rewards"] * np.minimum(share, 1.0),
        known=(following >= 0) | rows["terminateds"],
    )


def _side_by_side(dataset: Dataset, env: SharingEnv) -> tuple[IntArray, Columns]:
    """Whose row each is, and the rows of all agents one after another, those with a decision."""
    parts: list[Columns] = []
    for name in env.agents:
        rows = dataset.rows[name]
        acting = rows.get("acting", np.ones(len(rows["t"]), np.bool_))
        names = [*_COLUMNS, *(["stream"] if "stream" in rows else [])]
        parts.append({column: rows[column][acting] for column in names})
    agent = np.repeat(np.arange(len(parts)), [len(part["t"]) for part in parts])
    joined: dict[str, Array] = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
    return agent, joined


def _following(episode: IntArray, stream: IntArray, t: IntArray) -> IntArray:
    order = np.lexsort((t, stream, episode))
    same = (episode[order[1:]] == episode[order[:-1]]) & (stream[order[1:]] == stream[order[:-1]])
    following = np.full(len(order), -1, np.int64)
    following[order[:-1][same]] = order[1:][same]
    return following


def _time_left(rows: Columns) -> Floats:
    """Time from a decision to the end of its episode, [T]; not a number where no chain of durations leads there."""
    _, episode = np.unique(rows["eps_id"], return_inverse=True)
    length = int(rows["new_t"].max(initial=0)) + 1
    steps, place = np.unique(
        np.concatenate([episode * length + rows["t"], episode * length + rows["new_t"]]), return_inverse=True
    )
    begin, end = np.split(place, 2)
    left = np.full(len(steps), np.nan)
    left[np.append(np.flatnonzero(np.diff(steps // length)), len(steps) - 1)] = 0.0
    _chain(np.argsort(-begin, kind="stable"), begin, end, rows["duration"].astype(np.float64), left)
    return left[begin]


@jit
def _chain(order: IntArray, begin: IntArray, end: IntArray, duration: Floats, left: Floats) -> None:
    for k in order:
        if not np.isnan(left[end[k]]):
            left[begin[k]] = left[end[k]] + duration[k]
