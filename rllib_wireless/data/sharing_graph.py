"""Choosing who should share: which other agents' states tell an agent more of what its decisions bring.

Two measures rank the others for each agent. The *predictive gap* is how much smaller the squared error of predictions becomes, on
episodes that they were not fitted to, when a candidate's state is known, too: the left side of Lemma 3.4 of the SCAM-FQI paper,
which bounds it by the other, the *conditional mutual information* I(Y; S_j | S_i, a) of the target and the candidate's
compressed state. Y is the advantage of a decision, which has little noise but what follows from the decision itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rllib_wireless.data.advantages import advantages, returns
from rllib_wireless.data.cell_means import CellMeans, paired
from rllib_wireless.data.decisions import Decisions, Floats, joint_decisions
from rllib_wireless.data.information import classes, conditional_information, numbered, quartile
from rllib_wireless.data.store import load_dataset
from rllib_wireless.envs import make_env
from rllib_wireless.envs.base import BoolArray, FloatArray, IntArray, ObsField
from rllib_wireless.envs.sharing import Form, SharingEnv, SharingGraph, hop_distances, shared_columns
from rllib_wireless.errors import DataError, UserError

Target = Literal["advantage", "return", "reward"]

_FEW_ROWS = 20
_FEW_EPISODES = 10
_CONFIDENT = 1.96


@dataclass(frozen=True)
class Score:
    """What one agent's state tells another.

    Args:
        neighbour: Whose state.
        hops: Links between the two; None where no path joins them.
        gap: By which share of the target's variance its state makes the squared error smaller.
        gap_low: Lower end of the 95 % interval of that, over episodes.
        cmi: Conditional mutual information, nats a decision.
        p_value: Probability of one as large where there is none.
        chosen: Which choice it was, from 1; None where it was not chosen.
    """

    neighbour: str
    hops: int | None
    gap: float
    gap_low: float
    cmi: float
    p_value: float
    chosen: int | None = None


@dataclass(frozen=True)
class Selection:
    """A sharing graph, and why.

    Args:
        agents: The agents' names.
        graph: Who should see whom; `SharingGraph.save` writes what `SCAMFQIConfig.sharing(graph=...)` takes.
        scores: Those of each agent's candidates, the largest gap first.
        warnings: Where the sample is too small for an estimate.
    """

    agents: tuple[str, ...]
    graph: SharingGraph
    scores: dict[str, list[Score]]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "graph": {
                a: [self.agents[j] for j in seen[1:]]
                for a, seen in zip(self.agents, self.graph.neighbours, strict=True)
            },
            "scores": {agent: [asdict(score) for score in scores] for agent, scores in self.scores.items()},
            "warnings": self.warnings,
        }


@dataclass(frozen=True)
class _Candidates:
    """One agent's decisions, and what it could be shown.

    Args:
        own: Its local state, [T, L].
        actions: [T].
        shown: What others would share as numbers, by agent, [T].
        codes: Their compressed states as numbers, by agent, [T].
        target: Y, [T], with variance 1.
        episode: Episodes, [T].
        half: Which half of the episodes each is in, [T].
        sample: Rows by which information is estimated.
    """

    own: FloatArray
    actions: IntArray
    shown: dict[int, IntArray]
    codes: dict[int, IntArray]
    target: Floats
    episode: IntArray
    half: IntArray
    sample: IntArray


def select_sharing_graph(
    path: Path | str,
    *,
    form: Form = "compressed",
    target: Target = "advantage",
    gamma: float = 0.99,
    iterations: int = 5,
    max_neighbours: int = 8,
    within: int | None = None,
    rows: int = 8000,
    level: float = 0.05,
    permutations: int = 100,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Selection:
    """Choose for each agent whose states it should see.

    Agents are added one at a time, the one of the largest gap given those that were added before, as long as the lower end of
    the gap's 95 % interval is above zero and the information is significant at `level`.

    Args:
        path: A joint data set with recorded states, of an environment along a sharing graph.
        form: Whether others would show their `full` state, or the `compressed` one.
        target: What is predicted: the `advantage` of a decision; its discounted `return` in the data; or its `reward` until the
            next decision in the stream.
        gamma: Discount of a decision.
        iterations: How many decisions an advantage looks ahead before the returns in the data count.
        max_neighbours: Most others that an agent sees.
        within: Most links between an agent and a candidate; all agents if not given.
        rows: Decisions of each agent by which information is estimated, drawn from whole episodes; all else is from all.
        level: Significance level of the information.
        permutations: Permutations of its test.
        seed: Seed of all that is drawn.
        progress: Told which share is done.

    Returns:
        The graph and all scores.

    Raises:
        DataError: Where the data hold no states.
        UserError: At numbers out of range, or an environment whose agents cannot share.
    """
    for name, value, least in (
        ("rows", rows, 100),
        ("permutations", permutations, 20),
        ("max_neighbours", max_neighbours, 0),
        ("iterations", iterations, 1),
    ):
        if value < least:
            raise UserError(f"{name} = {value}, but it should be at least {least}")
    dataset = load_dataset(path)
    env = make_env(dataset.card.environment.name, **dataset.card.environment.config)
    if not isinstance(env, SharingEnv):
        raise UserError(f"in {env.name} agents do not share: there is no graph to choose")
    if dataset.joint_state is None:
        raise DataError("choosing a sharing graph takes recorded states: collect without --split", dataset.path)
    decisions = joint_decisions(dataset, env)
    half = _halves(decisions.episode, np.random.default_rng([seed, len(env.agents)]))
    y = _target(decisions, half, target, gamma, iterations, seed)
    hops = hop_distances(len(env.agents), env.links)
    neighbours: list[tuple[int, ...]] = []
    scores: dict[str, list[Score]] = {}
    warnings: list[str] = []
    for i, agent in enumerate(env.agents):
        random = np.random.default_rng([seed, i])
        others = [j for j in range(len(env.agents)) if j != i and (within is None or 0 <= hops[i, j] <= within)]
        kept = np.flatnonzero((decisions.agent == i) & np.isfinite(y))
        sample = _whole_episodes(decisions.episode[kept], rows, random)
        known = _candidates(decisions, env.local_fields, i, others, form, y, half, kept, sample)
        if warning := _too_few(known):
            warnings.append(f"{agent}: {warning}; it sees nobody")
            neighbours.append((i,))
            scores[agent] = []
            continue
        cells = len(np.unique(_condition(known)))
        if len(sample) < _FEW_ROWS * cells:
            warnings.append(
                f"{agent}: {len(sample)} decisions in {cells} different own states and actions, fewer than {_FEW_ROWS} in "
                "each: its information is estimated with little power"
            )
        found, order = _choose(known, others, max_neighbours, level, permutations, random)
        neighbours.append((i, *order))
        named = [
            Score(
                env.agents[j],
                None if hops[i, j] < 0 else int(hops[i, j]),
                *found[j],
                chosen=order.index(j) + 1 if j in order else None,
            )
            for j in others
        ]
        scores[agent] = sorted(named, key=lambda s: -s.gap)
        if progress is not None:
            progress((i + 1) / len(env.agents))
    return Selection(env.agents, SharingGraph(tuple(neighbours)), scores, warnings)


def _halves(episode: IntArray, random: np.random.Generator) -> IntArray:
    """0 or 1 for each row, by episode, [T]."""
    episodes, place = np.unique(episode, return_inverse=True)
    half: IntArray = (random.permutation(len(episodes)) % 2)[place]
    return half


def _target(decisions: Decisions, half: IntArray, target: Target, gamma: float, iterations: int, seed: int) -> Floats:
    """Y of each decision, [T]; not a number where it is unknown."""
    if target == "advantage":
        return advantages(decisions, half, gamma, iterations, seed)
    y = decisions.rewards if target == "reward" else returns(decisions, gamma)
    return np.where(decisions.known, y, np.nan)


def _candidates(
    decisions: Decisions,
    fields: tuple[ObsField, ...],
    i: int,
    others: Sequence[int],
    form: Form,
    y: Floats,
    half: IntArray,
    kept: IntArray,
    sample: IntArray,
) -> _Candidates:
    shown, compressed = shared_columns(fields, form), shared_columns(fields, "compressed")
    block, target = decisions.blocks[kept], y[kept]
    if len(kept):
        target = (target - target.mean()) / (float(target.std()) or 1.0)
    return _Candidates(
        own=block[:, i],
        actions=decisions.actions[kept],
        shown={j: numbered(classes(block[:, j][:, shown])) for j in others},
        codes={j: numbered(classes(block[:, j][:, compressed])) for j in others},
        target=target,
        episode=decisions.episode[kept],
        half=half[kept],
        sample=sample,
    )


def _condition(known: _Candidates) -> IntArray:
    """Own state and action of the sample as a number."""
    return numbered(np.concatenate([classes(known.own[known.sample]), known.actions[known.sample, None]], axis=1))


def _too_few(known: _Candidates) -> str | None:
    """What the sample lacks."""
    episodes = [len(np.unique(known.episode[known.half == number])) for number in (0, 1)]
    if len(known.target) < 5 * _FEW_ROWS or min(episodes) < _FEW_EPISODES:
        return f"{len(known.target)} decisions of {sum(episodes)} episodes are too few to choose by"
    return None


def _choose(
    known: _Candidates,
    others: Sequence[int],
    most: int,
    level: float,
    permutations: int,
    random: np.random.Generator,
) -> tuple[dict[int, tuple[float, float, float, float]], list[int]]:
    """First scores of all candidates, and those chosen, in order."""
    chosen: list[int] = []
    means, condition = CellMeans.of(known.own, known.actions, known.target, known.half), _condition(known)

    def information(j: int) -> tuple[float, float]:
        # What is predicted already is a function of the condition: without it Y says as much, and its classes are finer.
        target = quartile(means.errors[known.sample])
        return conditional_information(target, known.codes[j][known.sample], condition, permutations, random)

    gaps = _gaps(means, known, others)
    scores = {j: (*gaps[j], *information(j)) for j in others}
    while len(chosen) < most:
        able = [j for j in gaps if gaps[j][1] > 0.0 and scores[j][3] <= level]
        best = max(able, key=lambda j: gaps[j][0], default=None)
        if best is None or (chosen and information(best)[1] > level):
            break
        chosen.append(best)
        means = means.divided(known.shown[best]).numbered()
        condition = numbered(paired(condition, known.codes[best][known.sample]))
        gaps = _gaps(means, known, [j for j in others if j not in chosen])
    return scores, chosen


def _gaps(means: CellMeans, known: _Candidates, others: Sequence[int]) -> dict[int, tuple[float, float]]:
    """By how much each candidate makes the squared error smaller, and the lower end of that."""
    before = means.errors**2
    return {j: _mean_by_episode(before - means.divided(known.shown[j]).errors ** 2, known.episode) for j in others}


def _mean_by_episode(values: Floats, episode: IntArray) -> tuple[float, float]:
    """Mean over rows, and the lower end of its 95 % interval; episodes are independent, rows in one are not."""
    _, number = np.unique(episode, return_inverse=True)
    sums, counts = np.bincount(number, values), np.bincount(number)
    mean = float(values.mean())
    error = float(np.sqrt(((sums - mean * counts) ** 2).sum())) / len(values)
    return mean, mean - _CONFIDENT * error


def _whole_episodes(episode: IntArray, most: int, random: np.random.Generator) -> IntArray:
    """Rows of episodes drawn until there are about as many as wanted."""
    episodes, counts = np.unique(episode, return_counts=True)
    drawn = random.permutation(len(episodes))
    enough = np.searchsorted(np.cumsum(counts[drawn]), most) + 1
    chosen: BoolArray = np.isin(episode, episodes[drawn[:enough]])
    return np.flatnonzero(chosen)
