"""Choosing a sharing graph: estimates against known information, and choices where it is known who matters."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_wireless.data import Behaviour, collect
from rllib_wireless.data.cell_means import CellMeans
from rllib_wireless.data.decisions import Decisions, joint_decisions
from rllib_wireless.data.information import conditional_information
from rllib_wireless.data.sharing_graph import (
    Selection,
    _Candidates,
    _candidates,
    _choose,
    _target,
    select_sharing_graph,
)
from rllib_wireless.data.store import load_dataset
from rllib_wireless.envs import make_env
from rllib_wireless.envs.base import ObsField
from rllib_wireless.envs.production_scheduling import ProductionScheduling
from rllib_wireless.envs.sharing import SharingGraph
from rllib_wireless.errors import DataError, UserError

ENV = "production_scheduling"
PLANT: dict[str, Any] = {"plant": "grid_3x3", "products": "A,B", "defer": "forced"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("graph") / "joint"
    collect(ENV, PLANT, [Behaviour("uniform")], 4_000, out, num_envs=8, seed=3)
    return out


# ------------------------------------------------------------------------------------------------ information


def test_information_of_an_exclusive_or_is_one_bit() -> None:
    rng = np.random.default_rng(0)
    x, z = rng.integers(0, 2, (2, 4000))
    value, p = conditional_information(x ^ z, x, z, 100, rng)
    assert value == pytest.approx(np.log(2), abs=0.005) and p < 0.02
    value, p = conditional_information(x ^ z, x, np.zeros(4000, np.int64), 100, rng)
    assert value < 0.001 and p > 0.05  # without knowing z, x says nothing


def test_without_information_p_values_are_uniform() -> None:
    """Of 200 tests of independent samples, between 2 and 20 are significant at 5 % (binomial, 99.9 %)."""
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(200):
        z = rng.integers(0, 5, 300)
        y, x = (z + rng.integers(0, 3, 300)) % 4, (z * rng.integers(0, 2, 300)) % 3
        p_values.append(conditional_information(y, x, z, 60, rng)[1])
    assert 2 <= sum(p <= 0.05 for p in p_values) <= 20


def test_the_bias_of_small_samples_is_taken_off() -> None:
    """Plain counts of 10 x 4 x 4 classes in 500 samples would say .1 nats and more of independent ones."""
    rng = np.random.default_rng(2)
    values = []
    for _ in range(20):
        y, x, z = rng.integers(0, 4, 500), rng.integers(0, 4, 500), rng.integers(0, 10, 500)
        values.append(conditional_information(y, x, z, 50, rng)[0])
    assert np.mean(values) < 0.02


# ------------------------------------------------------------------------------------------------ choices


def synthetic(effect: Any, *, copies: bool = False) -> _Candidates:
    """An agent in one of six stages and five others that are busy or not; 400 episodes of 10 decisions."""
    rng = np.random.default_rng(3)
    n = 4000
    stage, busy = rng.integers(0, 6, n), rng.integers(0, 2, (5, n))
    if copies:
        busy[4] = busy[0]
    target = stage + effect(busy) + rng.normal(size=n)
    return _Candidates(
        own=np.eye(6, dtype=np.float32)[stage],
        actions=np.zeros(n, np.int64),
        shown=dict(enumerate(busy)),
        codes=dict(enumerate(busy)),
        target=(target - target.mean()) / target.std(),
        episode=np.arange(n) // 10,
        half=np.arange(n) // 10 % 2,
        sample=np.arange(n),
    )


def chosen(known: _Candidates, most: int = 4) -> list[int]:
    return _choose(known, list(known.shown), most, 0.05, 60, np.random.default_rng(0))[1]


def test_those_that_matter_are_chosen_the_strongest_first() -> None:
    assert chosen(synthetic(lambda busy: 3.0 * busy[2] + 1.5 * busy[0])) == [2, 0]
    assert chosen(synthetic(lambda busy: 3.0 * busy[2] + 1.5 * busy[0]), most=1) == [2]


def test_nobody_is_chosen_where_nobody_matters() -> None:
    assert chosen(synthetic(lambda busy: 0.0 * busy[0])) == []


def test_what_another_says_already_is_not_chosen_again() -> None:
    found = chosen(synthetic(lambda busy: 3.0 * busy[0], copies=True))
    assert found in ([0], [4])


def test_the_gap_is_the_share_of_variance_that_is_explained() -> None:
    """A fair bit of weight 3 has variance 2.25, of 2.25 + 35 / 12 + 1 in all."""
    known = synthetic(lambda busy: 3.0 * busy[2])
    scores, _ = _choose(known, list(known.shown), 0, 0.05, 60, np.random.default_rng(0))
    gap, low, information, p = scores[2]
    assert gap == pytest.approx(2.25 / (2.25 + 35 / 12 + 1), abs=0.03) and 0 < low < gap
    assert information > 0.1 and p < 0.02
    assert all(abs(scores[j][0]) < 0.01 for j in (0, 1, 3, 4))


def test_cells_know_what_only_together_matters() -> None:
    """The exclusive or of two bits is seen once one of them has divided the cells, by the other half of the episodes, too."""
    rng = np.random.default_rng(4)
    x, z = rng.integers(0, 2, (2, 4000))
    y = (x ^ z) - 0.5 + rng.normal(size=4000)
    means = CellMeans.of(np.zeros((4000, 1), np.float32), np.zeros(4000, np.int64), y, np.arange(4000) % 2)
    assert np.mean(means.errors**2) == pytest.approx(1.25, abs=0.07)
    assert np.mean(means.divided(x).errors ** 2) == pytest.approx(1.25, abs=0.07)
    assert np.mean(means.divided(x).divided(z).errors ** 2) == pytest.approx(1.0, abs=0.07)


def test_a_code_that_says_nothing_makes_no_prediction_better() -> None:
    """Cells of a tree that was fitted to noise predict badly; parts of them that are as random must not seem to mend it."""
    rng = np.random.default_rng(6)
    y, half = rng.normal(size=4000), np.arange(4000) % 2
    means = CellMeans.of(rng.normal(size=(4000, 3)).astype(np.float32), np.zeros(4000, np.int64), y, half)
    before = np.mean(means.errors**2)
    gaps = [before - np.mean(means.divided(rng.integers(0, 10, 4000)).errors ** 2) for _ in range(10)]
    assert before > 1.05 and max(gaps) < 0.002


# ------------------------------------------------------------------------------------------------ advantages


def walks(effect: float, seed: int) -> Decisions:
    """60 walks of 80 steps in each of which one of four agents decides; each is busy half of the time.

    Of two actions the one that is the number of agent 1's bit costs `effect` more; noise of deviation 3 comes on top of each step.
    """
    rng = np.random.default_rng(seed)
    steps, n = 80, 60 * 80
    agent, busy, action = rng.integers(0, 4, n), rng.integers(0, 2, (n, 4)), rng.integers(0, 2, n)
    following = np.where(np.arange(n) % steps < steps - 1, np.arange(n) + 1, -1)
    return Decisions(
        agent=agent,
        episode=np.arange(n) // steps,
        t=np.arange(n) % steps,
        stream=np.zeros(n, np.int64),
        actions=action,
        mask=np.ones((n, 2), np.bool_),
        blocks=busy[:, :, None].astype(np.float32),
        shown=busy.astype(np.float32),
        following=following,
        rewards=-effect * (action == busy[:, 1]) + 3.0 * rng.normal(size=n),
        known=np.ones(n, np.bool_),
    )


def seen(decisions: Decisions, target: Any) -> list[list[int]]:
    """Whom each of the four agents would see."""
    half = decisions.episode % 2
    y = _target(decisions, half, target, 1.0, 3, 0)
    found = []
    for i in range(4):
        kept = np.flatnonzero(decisions.agent == i)
        others = [j for j in range(4) if j != i]
        fields = (ObsField("busy", "continuous", shared="compressed"),)
        known = _candidates(decisions, fields, i, others, "compressed", y, half, kept, np.arange(len(kept)))
        found.append(_choose(known, others, 3, 0.05, 60, np.random.default_rng(i))[1])
    return found


def test_advantages_show_what_returns_hide() -> None:
    """In returns the steps to come make 27 of deviation; in advantages there is one step's 3, and 2 are told by agent 1."""
    decisions = walks(2.0, seed=5)
    assert seen(decisions, "advantage") == [[1], [], [1], [1]]
    assert seen(decisions, "return") == [[], [], [], []]


def test_nobody_is_seen_where_decisions_are_independent() -> None:
    """Of 48 pairs at most 3 by chance: a pair takes a gap beyond a one-sided 2.5 % and information beyond 5 %."""
    assert sum(len(found) for seed in range(4) for found in seen(walks(0.0, seed), "advantage")) <= 3


def test_products_are_followed_from_unit_to_unit(log: Path) -> None:
    """The next decision about a product comes before its unit's own next one; what is earned until then is minus the time."""
    dataset, env = load_dataset(log), make_env(ENV, **PLANT)
    assert isinstance(env, ProductionScheduling)
    d = joint_decisions(dataset, env)
    rows = np.flatnonzero(d.following >= 0)
    after = d.following[rows]
    assert (d.episode[after] == d.episode[rows]).all() and (d.stream[after] == d.stream[rows]).all()
    assert (d.t[after] > d.t[rows]).all()
    moved = rows[(d.actions[rows] > 0) & (d.agent[after] == env.rules.neighbours[d.agent[rows], d.actions[rows]])]
    assert len(moved) > 0.5 * len(rows)
    # A move takes 2 ticks; where no operation is in between, the next unit decides then. Own operations count in no reward,
    # which makes a few shares smaller.
    next_done = d.own[moved][:, 4:].max(axis=1) == d.own[d.following[moved]][:, 4:].max(axis=1)
    assert np.quantile(d.rewards[moved[next_done]], [0.25, 0.5]) == pytest.approx([-2.0, -2.0])


# ------------------------------------------------------------------------------------------------ data sets


def select(log: Path, **options: Any) -> Selection:
    return select_sharing_graph(log, **{"rows": 400, "permutations": 20, **options})


def test_equal_seeds_give_equal_graphs_that_an_environment_takes(log: Path, tmp_path: Path) -> None:
    first, again = select(log, within=1), select(log, within=1)
    assert first.to_json() == again.to_json()
    assert set(first.scores) == set(make_env(ENV, **PLANT).agents)
    assert all(score.hops == 1 for scores in first.scores.values() for score in scores)
    first.graph.save(tmp_path / "graph.json", first.agents)
    env = make_env(ENV, **PLANT, sharing_graph=str(tmp_path / "graph.json"))
    assert SharingGraph.load(tmp_path / "graph.json", env.agents) == first.graph


def test_a_sample_that_carries_no_estimate_is_told(tmp_path: Path) -> None:
    collect(ENV, PLANT, [Behaviour("uniform")], 60, tmp_path / "few", num_envs=2, seed=3)
    found = select(tmp_path / "few")
    assert any("too few to choose by" in warning for warning in found.warnings)
    assert all(len(seen) == 1 for seen in found.graph.neighbours)


def test_what_cannot_be_chosen_from_is_refused(log: Path, tmp_path: Path) -> None:
    collect(ENV, PLANT, [Behaviour("uniform")], 60, tmp_path / "split", num_envs=2, split="agents")
    with pytest.raises(DataError, match="recorded states"):
        select(tmp_path / "split" / "unit_1")
    with pytest.raises(UserError, match="rows = 3, but it should be at least 100"):
        select(log, rows=3)


def test_the_command_writes_graph_scores_and_picture(log: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "rllib_wireless",
        "data",
        "sharing-graph",
        str(log),
        "--out",
        str(tmp_path / "chosen"),
    ]
    done = subprocess.run(
        [*command, "--rows", "300", "--within", "1", "--json"], capture_output=True, text=True, check=True
    )
    content = json.loads(done.stdout)
    assert content["graph"] == json.loads((tmp_path / "chosen" / "graph.json").read_text())
    assert (tmp_path / "chosen" / "scores.png").stat().st_size > 10_000
    assert content["scores"].keys() == content["graph"].keys()
