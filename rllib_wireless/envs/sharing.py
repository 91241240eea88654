"""Who sees whom: sharing graphs, and what agents are shown of others' states along them.

An agent has its own observation, and behind it of its neighbours' local states what the form of sharing lets through. The same
view builds that in a running simulator and from recorded joint states, so that one data set serves every graph and form.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pydantic.dataclasses

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.envs.base import BatchedEnv, FloatArray, IntArray, ObsField, observation_space
from rllib_wireless.errors import UserError

Form = Literal["full", "compressed"]
Links = Sequence[tuple[int, int]] | None
"""Pairs of agents that are joined; None where each is joined with each."""

FAR = -1
"""Distance of agents that no path joins."""


def hop_distances(num_agents: int, links: Links) -> IntArray:
    """Number of links between any two agents, [N, N]; `FAR` where no path joins them. Links go both ways."""
    if links is None:
        return 1 - np.eye(num_agents, dtype=np.int64)
    return np.stack([hops_from(agent, num_agents, links) for agent in range(num_agents)])


def hops_from(agent: int, num_agents: int, links: Sequence[tuple[int, int]]) -> IntArray:
    """Number of links between an agent and every other, [N], by breadth-first search."""
    linked: list[list[int]] = [[] for _ in range(num_agents)]
    for i, j in links:
        linked[i].append(j)
        linked[j].append(i)
    hops = np.full(num_agents, FAR, np.int64)
    hops[agent], frontier, distance = 0, [agent], 0
    while frontier:
        distance += 1
        frontier = [j for j in {j for i in frontier for j in linked[i]} if hops[j] == FAR]
        hops[frontier] = distance
    return hops


@dataclass(frozen=True)
class SharingGraph:
    """The agents whose states each agent is shown.

    Args:
        neighbours: Indices by agent, the agent itself first.
    """

    neighbours: tuple[tuple[int, ...], ...]

    @classmethod
    def ball(cls, num_agents: int, links: Links, radius: int | None) -> "SharingGraph":
        """Agents within `radius` links, ordered by distance and then index; None for all that a path joins."""
        if radius == 0:
            return cls(tuple((i,) for i in range(num_agents)))
        distances = hop_distances(num_agents, links)
        within = (distances != FAR) & (distances <= (num_agents if radius is None else radius))
        order = np.argsort(distances, axis=1, kind="stable")
        return cls(tuple(tuple(int(j) for j in order[i] if within[i, j]) for i in range(num_agents)))

    @classmethod
    def load(cls, path: Path | str, agents: Sequence[str]) -> "SharingGraph":
        """Read a graph: a JSON object that gives each agent's name the names of those it sees, nearest first.

        Raises:
            UserError: Naming what is wrong in the file.
        """
        try:
            content = json.loads(Path(path).read_text())
        except OSError as error:
            raise UserError(f"sharing graph {path}: {error.strerror}") from None
        except ValueError as error:
            raise UserError(f"sharing graph {path} is no JSON: {error}") from None
        if not isinstance(content, dict) or any(not isinstance(seen, list) for seen in content.values()):
            raise UserError(f"sharing graph {path}: it should be an object that gives each agent a list of agents")
        index = {agent: i for i, agent in enumerate(agents)}
        neighbours = []
        for i, agent in enumerate(agents):
            seen = content.get(agent, [])
            for name in (*content, *seen):
                if name not in index:
                    raise UserError(f"sharing graph {path}: there is no agent {name!r}; agents are {', '.join(agents)}")
            neighbours.append((i, *(j for j in dict.fromkeys(index[name] for name in seen) if j != i)))
        return cls(tuple(neighbours))

    def save(self, path: Path | str, agents: Sequence[str]) -> None:
        """Write what `load` reads."""
        content = {agent: [agents[j] for j in seen[1:]] for agent, seen in zip(agents, self.neighbours, strict=True)}
        Path(path).write_text(json.dumps(content, indent=1) + "\n")


class SharingView:
    """What neighbours show of their local states [N, L]; an agent's own observation comes before it.

    There is a slot for each neighbour: a bit that says that there is one, and those of its columns that are shared. Agents with
    fewer neighbours than others have zeros behind.

    Args:
        fields: The fields of a block of local state.
        graph: Who sees whom.
        form: Whether neighbours show all fields that are shared, or those of `shared="compressed"` only.

    Attributes:
        fields: The fields of the slots.
        source: Where each column comes from, [N, D]: a column of the flattened local states [N * L], or behind those 0 and 1.
    """

    def __init__(self, fields: tuple[ObsField, ...], graph: SharingGraph, form: Form) -> None:
        n, width = len(graph.neighbours), sum(f.size for f in fields)
        columns = shared_columns(fields, form)
        slots = max(len(seen) for seen in graph.neighbours) - 1
        zero, one = n * width, n * width + 1
        self.source: IntArray = np.full((n, slots * (1 + len(columns))), zero, np.int64)
        for i, seen in enumerate(graph.neighbours):
            for k, j in enumerate(seen[1:]):
                start = k * (1 + len(columns))
                self.source[i, start : start + 1 + len(columns)] = np.append(one, j * width + columns)
        self.fields = tuple(_neighbour_fields(fields, form, slots))
        self._block = n * width

    def observe(self, state: npt.NDArray[np.float32], agents: int | slice = slice(None)) -> FloatArray:
        """The slots [..., N, D] of joint states [..., S], which begin with the agents' blocks of local state.

        Args:
            state: Joint states.
            agents: Whose slots; one agent's are [..., D].
        """
        ends = np.broadcast_to(np.array([0.0, 1.0], np.float32), (*state.shape[:-1], 2))
        observed: FloatArray = np.concatenate([state[..., : self._block], ends], axis=-1)[..., self.source[agents]]
        return observed


@pydantic.dataclasses.dataclass(frozen=True, config=CONFIG)
class SharingConfig(Configuration):
    """Who is shown what of others, for environments whose agents can share."""

    sharing_radius: int | None = field(
        0, "Agents so many links away show what they share; none: all of them.", unit="links", ge=0
    )
    observation: Literal["full", "compressed"] = field(
        "compressed", "What agents show of themselves: all fields that are shared, or the most telling one."
    )
    sharing_graph: str | None = field(None, "JSON file that says who sees whom, in place of sharing_radius.")


class SharingEnv(BatchedEnv):
    """A simulator whose agents can be shown what others share.

    Attributes:
        links: Pairs of agents that are joined, along which `sharing_radius` reaches.
        local_fields: Fields of a block of `local_state()`.
        view: What neighbours show.
    """

    config: SharingConfig
    links: Links = None
    local_fields: tuple[ObsField, ...]
    view: SharingView

    def _set_fields(self, own: tuple[ObsField, ...], local: tuple[ObsField, ...]) -> None:
        """Say what an agent observes by itself, and what its local state consists of."""
        config, n = self.config, len(self.agents)
        if config.sharing_graph is not None:
            graph = SharingGraph.load(config.sharing_graph, self.agents)
        else:
            graph = SharingGraph.ball(n, self.links, config.sharing_radius)
        self.local_fields, self.view = local, SharingView(local, graph, config.observation)
        self.obs_fields = (*own, *self.view.fields)
        self.observation_space = observation_space(self.obs_fields)

    def _with_neighbours(self, own: FloatArray) -> FloatArray:
        """Observations [B, N, D]: the agents' own ones, and behind them what neighbours show now."""
        if not self.view.fields:
            return own
        return np.concatenate([own, self.view.observe(self.local_state().reshape(len(own), -1))], axis=-1)


def shared_columns(fields: tuple[ObsField, ...], form: Form) -> IntArray:
    """Columns of a block of local state that neighbours are shown."""
    shown: IntArray = np.flatnonzero(np.concatenate([np.full(f.size, _is_shared(f, form)) for f in fields]))
    return shown


def _is_shared(field: ObsField, form: Form) -> bool:
    return field.shared == "compressed" or (form == "full" and field.shared == "full")


def _neighbour_fields(fields: tuple[ObsField, ...], form: Form, slots: int) -> list[ObsField]:
    """The fields of the neighbours' slots; all are continuous, since an empty slot is zero throughout."""
    found = []
    for slot in range(1, slots + 1):
        name = f"neighbour_{slot}"
        found.append(ObsField(f"{name}_there", "continuous", description=f"1 if there is a neighbour number {slot}"))
        found += [
            dataclasses.replace(f, name=f"{name}_{f.name}", kind="continuous", shared=None, low=min(f.low, 0.0))
            for f in fields
            if _is_shared(f, form)
        ]
    return found
