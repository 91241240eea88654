"""Choosing a sharing graph: estimates against known information, and choices where it is known who matters."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_wireless.data import Behaviour, collect
from rllib_wireless.data.sharing_graph import (
    Selection,
    _Candidates,
    _choose,
    conditional_information,
    select_sharing_graph,
)
from rllib_wireless.envs import make_env
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
        blocks={j: busy[j][:, None].astype(np.float32) for j in range(5)},
        codes=dict(enumerate(busy)),
        condition=stage,
        target=(target - target.mean()) / target.std(),
        episode=np.arange(n) // 10,
    )


def chosen(known: _Candidates, most: int = 4) -> list[int]:
    return _choose(known, list(known.blocks), most, 0.05, 60, np.random.default_rng(0))[1]


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
    scores, _ = _choose(known, list(known.blocks), 0, 0.05, 60, np.random.default_rng(0))
    gap, low, information, p = scores[2]
    assert gap == pytest.approx(2.25 / (2.25 + 35 / 12 + 1), abs=0.03) and 0 < low < gap
    assert information > 0.1 and p < 0.02
    assert all(abs(scores[j][0]) < 0.01 for j in (0, 1, 3, 4))


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
