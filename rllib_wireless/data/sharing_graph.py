"""Choosing who should share: which other agents' states tell an agent more of what its decisions bring.

Two measures rank the others for each agent. The *predictive gap* is how much smaller the cross-validated squared error of a
forest becomes when it is shown a candidate, too: the left side of Lemma 3.4 of the SCAM-FQI paper, which bounds it by the other,
the *conditional mutual information* I(Y; S_j | S_i, a) of the target and the candidate's compressed state. That is estimated
from counts, less its mean over permutations within equal (S_i, a), and those give a p-value.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import GroupKFold

from rllib_wireless.data.format import Columns
from rllib_wireless.data.returns import later_returns
from rllib_wireless.data.store import Dataset, load_dataset
from rllib_wireless.envs import make_env
from rllib_wireless.envs.base import BoolArray, FloatArray, IntArray
from rllib_wireless.envs.sharing import Form, SharingEnv, SharingGraph, hop_distances, shared_columns
from rllib_wireless.errors import DataError, UserError

Floats = npt.NDArray[np.float64]
Target = Literal["reward", "return"]

_FOLDS = 5
_BINS = 4
_FEW_ROWS = 20
_MANY_VALUES = 12
_CONFIDENT = 1.96
_LOOKED_AT_AGAIN = 6
"""Candidates whose gap is measured again after each choice, those of the largest gaps at first."""


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
        own: Own block and action, [T, F].
        blocks: Columns that others would share, by agent, [T, C] each.
        codes: Their compressed states as numbers, by agent, [T].
        condition: Own block and action as a number, [T].
        target: Y, [T], with variance 1.
        episode: Episodes, [T].
    """

    own: FloatArray
    blocks: dict[int, FloatArray]
    codes: dict[int, IntArray]
    condition: IntArray
    target: Floats
    episode: IntArray


def select_sharing_graph(
    path: Path | str,
    *,
    form: Form = "compressed",
    target: Target = "return",
    gamma: float = 0.99,
    max_neighbours: int = 4,
    within: int | None = None,
    rows: int = 4000,
    level: float = 0.05,
    permutations: int = 200,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Selection:
    """Choose for each agent whose states it should see.

    Agents are added one at a time, the one of the largest gap given those that were added before, as long as the lower end of
    the gap's 95 % interval is above zero and the information is significant at `level`.

    Args:
        path: A joint data set with recorded states, of an environment along a sharing graph.
        form: Whether others would show their `full` state, or the `compressed` one.
        target: What is predicted: the `reward` of a decision, the first iteration's target; or the discounted `return` from it
            on in the data, what later targets are like.
        gamma: Discount of a decision in returns.
        max_neighbours: Most others that an agent sees.
        within: Most links between an agent and a candidate; all agents if not given.
        rows: Decisions of each agent that are looked at, drawn from whole episodes.
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
    ):
        if value < least:
            raise UserError(f"{name} = {value}, but it should be at least {least}")
    dataset = load_dataset(path)
    env = make_env(dataset.card.environment.name, **dataset.card.environment.config)
    if not isinstance(env, SharingEnv):
        raise UserError(f"in {env.name} agents do not share: there is no graph to choose")
    if dataset.joint_state is None:
        raise DataError("choosing a sharing graph takes recorded states: collect without --split", dataset.path)
    hops = hop_distances(len(env.agents), env.links)
    neighbours: list[tuple[int, ...]] = []
    scores: dict[str, list[Score]] = {}
    warnings: list[str] = []
    for i, agent in enumerate(env.agents):
        random = np.random.default_rng([seed, i])
        others = [j for j in range(len(env.agents)) if j != i and (within is None or 0 <= hops[i, j] <= within)]
        known = _candidates(dataset, env, i, others, (form, target, gamma, rows), random)
        if len(known.target) < _FOLDS * _FEW_ROWS or len(np.unique(known.episode)) < _FOLDS:
            warnings.append(f"{agent}: {len(known.target)} decisions are too few to choose by; it sees nobody")
            neighbours.append((i,))
            scores[agent] = []
            continue
        cells = len(np.unique(known.condition))
        if len(known.target) < _FEW_ROWS * cells:
            warnings.append(
                f"{agent}: {len(known.target)} decisions in {cells} different own states and actions, fewer than {_FEW_ROWS} in "
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


def _candidates(
    dataset: Dataset,
    env: SharingEnv,
    i: int,
    others: Sequence[int],
    options: tuple[Form, Target, float, int],
    random: np.random.Generator,
) -> _Candidates:
    form, target, gamma, most = options
    rows = dataset.rows[env.agents[i]]
    kept = _whole_episodes(rows["eps_id"], most, random)
    y = rows["rewards"].astype(np.float64) if target == "reward" else _returns(rows, gamma)
    fields = env.local_fields
    width = sum(f.size for f in fields)
    state = dataset.state_at(rows["eps_id"][kept], rows["t"][kept])
    block = {j: state[:, j * width : (j + 1) * width] for j in (i, *others)}
    shown, compressed = shared_columns(fields, form), shared_columns(fields, "compressed")
    one_hot = np.eye(int(env.action_space.n), dtype=np.float32)[rows["actions"][kept]]
    own = np.concatenate([block[i], one_hot], axis=1)
    spread = float(y[kept].std()) or 1.0
    return _Candidates(
        own=own,
        blocks={j: block[j][:, shown] for j in others},
        codes={j: _number(_classes(block[j][:, compressed])) for j in others},
        condition=_number(_classes(own)),
        target=(y[kept] - y[kept].mean()) / spread if len(kept) else y[kept],
        episode=rows["eps_id"][kept],
    )


def _choose(
    known: _Candidates,
    others: Sequence[int],
    most: int,
    level: float,
    permutations: int,
    random: np.random.Generator,
) -> tuple[dict[int, tuple[float, float, float, float]], list[int]]:
    """First scores of all candidates, and those chosen, in order."""
    folds = list(GroupKFold(_FOLDS).split(known.own, groups=known.episode))
    target = np.searchsorted(np.quantile(known.target, np.arange(1, _BINS) / _BINS), known.target)
    chosen: list[int] = []
    shown, condition = known.own, known.condition
    error = _squared_errors(shown, known.target, folds)
    first: dict[int, tuple[float, float, float, float]] = {}
    candidates = list(others)
    while candidates and (not first or len(chosen) < most):
        scores = {}
        for j in candidates:
            wider = _squared_errors(np.concatenate([shown, known.blocks[j]], axis=1), known.target, folds)
            gap, low = _mean_by_episode(error - wider, known.episode)
            scores[j] = (gap, low, *conditional_information(target, known.codes[j], condition, permutations, random))
        if not first:
            first = scores
            candidates = sorted(others, key=lambda j: -first[j][0])[:_LOOKED_AT_AGAIN]
        able = [j for j in candidates if scores[j][1] > 0.0 and scores[j][3] <= level]
        if not able or most == 0:
            break
        best = max(able, key=lambda j: scores[j][0])
        chosen.append(best)
        candidates.remove(best)
        shown = np.concatenate([shown, known.blocks[best]], axis=1)
        condition = _number(np.stack([condition, known.codes[best]], axis=1))
        error = _squared_errors(shown, known.target, folds)
    return first, chosen


def _squared_errors(x: FloatArray, y: Floats, folds: Sequence[tuple[IntArray, IntArray]]) -> Floats:
    """Of each row, predicted by a forest that was not shown its episode, [T]."""
    predicted = np.empty(len(y))
    for train, test in folds:
        # Large leaves: with small ones a forest gets worse by each column that says nothing.
        forest = ExtraTreesRegressor(n_estimators=20, min_samples_leaf=20, max_features=1.0, random_state=0)
        predicted[test] = forest.fit(x[train], y[train]).predict(x[test])
    errors: Floats = (predicted - y) ** 2
    return errors


def _mean_by_episode(values: Floats, episode: IntArray) -> tuple[float, float]:
    """Mean over rows, and the lower end of its 95 % interval; episodes are independent, rows in one are not."""
    _, number = np.unique(episode, return_inverse=True)
    sums, counts = np.bincount(number, values), np.bincount(number)
    mean = float(values.mean())
    error = float(np.sqrt(((sums - mean * counts) ** 2).sum())) / len(values)
    return mean, mean - _CONFIDENT * error


def conditional_information(
    target: IntArray, code: IntArray, condition: IntArray, permutations: int, random: np.random.Generator
) -> tuple[float, float]:
    """I(target; code | condition) of discrete samples.

    Args:
        target: Classes, [T].
        code: Classes, [T].
        condition: Classes, [T].
        permutations: Permutations of `code` within equal conditions.
        random: What they are drawn from.

    Returns:
        The plug-in estimate in nats less its mean over permutations, which is its bias where there is no information, and not
        below 0; and the share of permutations that give no less.
    """
    plain = _plug_in(target, code, condition)
    order = np.argsort(condition, kind="stable")
    target, code, condition = target[order], code[order], condition[order]
    shuffled = np.empty(permutations)
    for k in range(permutations):
        within = np.lexsort((random.random(len(code)), condition))
        shuffled[k] = _plug_in(target, code[within], condition)
    p_value = (1 + int((shuffled >= plain - 1e-12).sum())) / (1 + permutations)
    return max(plain - float(shuffled.mean()), 0.0), p_value


def _plug_in(y: IntArray, x: IntArray, z: IntArray) -> float:
    """H(y, z) + H(x, z) - H(y, x, z) - H(z) of the samples, in nats."""
    nx, ny = int(x.max(initial=0)) + 1, int(y.max(initial=0)) + 1
    return _entropy(z * ny + y) + _entropy(z * nx + x) - _entropy((z * nx + x) * ny + y) - _entropy(z)


def _entropy(values: IntArray) -> float:
    counts = np.bincount(values)
    p = counts[counts > 0] / len(values)
    return float(-(p * np.log(p)).sum())


def _number(rows: npt.NDArray[Any]) -> IntArray:
    """Equal rows get equal numbers, from 0, [T, C] -> [T]."""
    number: IntArray = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return number


def _classes(columns: FloatArray) -> FloatArray:
    """The same columns [T, C], with quartiles in place of many values."""
    found = columns.copy()
    for k, column in enumerate(columns.T):
        if len(np.unique(column)) > _MANY_VALUES:
            found[:, k] = np.searchsorted(np.quantile(column, np.arange(1, _BINS) / _BINS), column)
    return found


def _whole_episodes(episode: IntArray, most: int, random: np.random.Generator) -> IntArray:
    """Rows of episodes drawn until there are about as many as wanted."""
    episodes, counts = np.unique(episode, return_counts=True)
    drawn = random.permutation(len(episodes))
    enough = np.searchsorted(np.cumsum(counts[drawn]), most) + 1
    chosen: BoolArray = np.isin(episode, episodes[drawn[:enough]])
    return np.flatnonzero(chosen)


def _returns(rows: Columns, gamma: float) -> Floats:
    rewards = rows["rewards"].astype(np.float64)
    discount = gamma * ~rows["terminateds"]
    returns: Floats = rewards + discount * later_returns(rows, rewards, discount)
    return returns
