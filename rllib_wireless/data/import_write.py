"""Rows of an import as transitions, written piece by piece: nothing is kept but each agent's last row."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from rllib_wireless.data.assemble import FRAGMENT_ROWS, fill
from rllib_wireless.data.card import AgentCard
from rllib_wireless.data.format import Array, Columns
from rllib_wireless.data.fragments import Fragment
from rllib_wireless.data.import_rows import AGENT, EPISODE, LINE


@dataclass
class _Returns:
    """Mean and deviation of an agent's returns, from one episode to the next (Welford)."""

    episode: int = -1
    total: float = 0.0
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, episodes: Array, rewards: Array) -> None:
        """Take in rows, in order."""
        starts = np.flatnonzero(np.append(True, episodes[1:] != episodes[:-1]))
        for episode, total in zip(
            episodes[starts].tolist(), np.add.reduceat(rewards.astype(float), starts).tolist(), strict=True
        ):
            if episode != self.episode:
                self.end()
                self.episode, self.total = episode, 0.0
            self.total += total

    def end(self) -> None:
        """Count the running episode."""
        if self.episode >= 0:
            self.count += 1
            change = self.total - self.mean
            self.mean += change / self.count
            self.squares += change * (self.total - self.mean)
            self.episode = -1


@dataclass
class _Agent:
    rows: int = 0
    dropped: int = 0
    last: Columns | None = None
    returns: _Returns = field(default_factory=_Returns)


class Transitions:
    """Makes transitions of rows, and counts them.

    Args:
        num_actions: A.
        longest: Steps after which an agent's row does not follow its row before any more.

    Attributes:
        columns: Names of the columns of a row, once there is one.
        action_counts: How often each action was taken, [A].
        episodes: Episodes that have a row.
        low: Smallest value of each column of the observation.
        high: Largest value likewise.
    """

    def __init__(self, num_actions: int, longest: int | None) -> None:
        self._num_actions, self._longest = num_actions, longest
        self._agents: dict[int, _Agent] = {}
        self._newest = -1
        self.columns: tuple[str, ...] = ()
        self.action_counts = np.zeros(num_actions, np.int64)
        self.episodes = 0
        self.low: Array = np.zeros(0, np.float32)
        self.high: Array = np.zeros(0, np.float32)

    def push(self, rows: Columns, *, ends: bool = False) -> dict[int, Columns]:
        """The transitions that are whole by now, by agent.

        Args:
            rows: Rows in order; an agent's last one waits for the next, unless it ends its episode.
            ends: Whether these are the last rows of all.
        """
        order = np.argsort(rows[AGENT], kind="stable")
        agents, starts = np.unique(rows[AGENT][order], return_index=True)
        parts = dict(zip(agents.tolist(), np.split(order, starts)[1:], strict=True))
        names = [name for name in rows if name not in (LINE, AGENT, EPISODE)]
        waiting = [i for i, agent in self._agents.items() if agent.last is not None] if ends else []
        found = {}
        for i in sorted({*parts, *waiting}):
            agent = self._agents.setdefault(i, _Agent())
            own = {name: rows[name][parts.get(i, slice(0))] for name in names}
            if agent.last is not None:
                own = {name: np.concatenate([agent.last[name], own[name]]) for name in names}
            agent.last = None
            waits = not ends and not ("terminateds" in own and own["terminateds"][-1])
            if waits:
                agent.last = {name: values[-1:].copy() for name, values in own.items()}
            whole, dropped = fill(own, self._num_actions, self._longest)
            if waits and "new_obs" in own:  # where it would have been kept
                whole = {name: values[:-1] for name, values in whole.items()}
            agent.dropped += dropped - (waits and "new_obs" not in own)
            if len(whole["t"]):
                self._count(agent, whole)
                found[i] = whole
        if found:
            self._count_episodes(np.concatenate([whole["eps_id"] for whole in found.values()]))
        if ends:
            for agent in self._agents.values():
                agent.returns.end()
        return found

    def cards(self, names: list[str]) -> dict[str, AgentCard]:
        """What a card says of each agent that has a row in the logs, by name."""
        return {
            names[i]: AgentCard(
                agent.rows,
                agent.dropped,
                agent.returns.mean if agent.returns.count else None,
                float(np.sqrt(agent.returns.squares / agent.returns.count)) if agent.returns.count else None,
            )
            for i, agent in sorted(self._agents.items())
        }

    def _count(self, agent: _Agent, whole: Columns) -> None:
        agent.rows += len(whole["t"])
        agent.returns.add(whole["eps_id"], whole["rewards"])
        self.action_counts += np.bincount(whole["actions"], minlength=self._num_actions)
        low, high = (np.stack([limit(whole[name], 0) for name in ("obs", "new_obs")]) for limit in (np.min, np.max))
        if not self.columns:
            self.columns, self.low, self.high = tuple(whole), low[0], high[0]
        self.low, self.high = np.min([self.low, *low], axis=0), np.max([self.high, *high], axis=0)

    def _count_episodes(self, numbers: Array) -> None:
        # Episodes come in order, but for the last rows of earlier ones, which were counted or stand alone.
        self.episodes += len(np.unique(numbers[numbers > self._newest]))
        self._newest = max(self._newest, int(numbers.max()))


def fragments(found: dict[int, Columns], names: list[str]) -> Iterator[Fragment]:
    """Transitions as the content of lines: one episode each, and `FRAGMENT_ROWS` steps of it at most."""
    if not found:
        return
    rows = {name: np.concatenate([whole[name] for whole in found.values()]) for name in next(iter(found.values()))}
    agent = np.repeat(list(found), [len(whole["t"]) for whole in found.values()])
    order = np.lexsort((agent, rows["t"], rows["eps_id"]))
    episode, t = rows["eps_id"][order], rows["t"][order]
    begins = np.append(True, episode[1:] != episode[:-1])
    new_step = begins | np.append(True, t[1:] != t[:-1])
    step = np.cumsum(new_step)
    within = step - step[np.maximum.accumulate(np.where(begins, np.arange(len(step)), 0))]
    line = np.cumsum(begins | (np.diff(within // FRAGMENT_ROWS, prepend=0) != 0)) - 1
    steps = np.bincount(line[new_step]).tolist()
    # Within a line, agent by agent; both sorts keep what is in order.
    grouped = np.lexsort((agent[order], line))
    rows = {name: values[order[grouped]] for name, values in rows.items()}
    agent, line = agent[order[grouped]], line[grouped]
    edges = np.flatnonzero(np.append(True, (np.diff(line) != 0) | (np.diff(agent) != 0)))
    made = [Fragment(count) for count in steps]
    for start, stop in zip(edges.tolist(), [*edges[1:].tolist(), len(line)], strict=True):
        made[line[start]].rows[names[agent[start]]] = {name: values[start:stop] for name, values in rows.items()}
    yield from made
