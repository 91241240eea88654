"""The experiment of CTDE-CQL in small."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm
from rllib_wireless.envs import make_env
from rllib_wireless.papers import resumable
from rllib_wireless.papers.ctde_cql import experiment
from rllib_wireless.papers.ctde_cql.claims import Contrast, contrasts
from rllib_wireless.papers.ctde_cql.learning import BestCheckpoint
from rllib_wireless.papers.ctde_cql.setup import DEMO, ENV, PAPER, RULES, Scale
from rllib_wireless.papers.ctde_cql.studies import all_cells, studies
from rllib_wireless.papers.experiment import Json
from rllib_wireless.papers.intervals import by_seed
from rllib_wireless.papers.learning import metrics_of
from rllib_wireless.papers.pool import run_side_by_side
from rllib_wireless.policies import NetworkPolicy, StackedMLP, load_policy, save_policy
from rllib_wireless.policies.evaluation import evaluate

TINY = Scale(
    "tiny",
    num_seeds=2,
    study_seeds=1,
    iterations=2,
    steps=5,
    rows=400,
    sizes=(200, 400, 600),
    online_iterations=2,
    rollout_length=20,
    test_drops=4,
    validation_drops=3,
    wide=(16, 16),
    settings={"gamma": 0.9, "fcnet_hiddens": (8,)},
    online_settings={"gamma": 0.9, "fcnet_hiddens": (8,), "learning_starts": 200},
    long_seeds=1,
    long_rows=300,
    long={name: {"fcnet_hiddens": (6,), "dataset_num_iters_per_learner": 4} for name in ("centralized", "ctde")},
)


def reproduce(out: Path, *, plot_only: bool = False) -> Json:
    """The claims and figures of what is there."""
    e = experiment(TINY)
    return resumable.reproduce(e, out, lambda line: None, only="rules-default_0", workers=1, plot_only=plot_only)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Policies that the claims about paradigms need, two seeds each."""
    out = tmp_path_factory.mktemp("ctde_cql")
    wanted = ("sac-default", "rules-default", "ctde-sac-400_", "centralized-sac-400_", "bc-sac-400_0", "ctde-sac-200_0")
    run_side_by_side([cell for cell in all_cells(TINY) if cell.name.startswith(wanted)], out, 1, lambda line: None)
    reproduce(out)
    return out


def test_the_experiment_runs_in_small_and_keeps_behaviour_policies(tiny: Path) -> None:
    content = json.loads((tiny / "results.json").read_text())
    learned = {"sac-default", "ctde-sac-400", "centralized-sac-400", "bc-sac-400", "ctde-sac-200"}
    assert set(content["policies"]) == {f"{rule}-default" for rule in RULES} | learned
    ctde, central = (content["policies"][f"{name}-sac-400"]["metrics"] for name in ("ctde", "centralized"))
    # 6 inputs, 8 units and 4 actions for each of 4 access points; one network with all inputs and 4^4 actions.
    assert ctde["parameters"]["mean"] == 4 * ((6 + 1) * 8 + (8 + 1) * 4) and ctde["messages_per_slot"]["mean"] == 0
    assert central["parameters"]["mean"] == (24 + 1) * 8 + (8 + 1) * 256 and central["messages_per_slot"]["mean"] == 8
    assert {c["id"] for c in content["claims"]} >= {"centralized-ctde", "ctde-98", "15-itlinq", "ctde-online"}
    assert not list((tiny / "work").iterdir())
    assert len(load_policy(tiny / "behaviours" / "sac_default_1").agents) == 4


def test_the_checkpoint_that_is_best_on_validation_drops_is_tested(tmp_path: Path) -> None:
    """Three constant policies in place of checkpoints; full reuse scores higher than silence."""
    best = BestCheckpoint(TINY, {}, seed=3, folder=tmp_path / "best")
    for action in (0, 1, 0):
        best(cast(OfflineMultiAgentAlgorithm, Constant(action)))
    assert best.scores[1] > best.scores[0] == best.scores[2] == 0.0
    assert load_policy(tmp_path / "best").to_portable()[1]["layer_0.bias"][0].argmax() == 1


def test_an_offline_cell_makes_the_behaviour_policy_that_is_missing_and_equal_seeds_give_equal_results(
    tiny: Path, tmp_path: Path
) -> None:
    (cell,) = [cell for cell in all_cells(TINY) if cell.name == "ctde-sac-400_1"]
    again, kept = (
        cell.run(tmp_path, lambda name, share: None),
        json.loads((tiny / "cells" / f"{cell.name}.json").read_text()),
    )
    for result in (again, kept):
        del result["metrics"]["decision_us"]  # a time
        result.pop("seconds", None)
    assert again == kept


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("ctde_dqn-itlinq_exploring-300-powers_told", 4 * 18 + 3),
        ("centralized_dqn-random-300-powers-alpha_0.1", 4 * 18),
    ],
)
def test_informed_learners_see_all_powers_and_are_trained_with_settings_of_their_own(
    name: str, inputs: int, tmp_path: Path
) -> None:
    """Told, an agent sees SINR, weight and four powers of three users of each access point, and a bit for each of the others."""
    (cell,) = [cell for cell in all_cells(TINY) if cell.name == f"{name}-long_0"]
    measured = cell.run(tmp_path, lambda name, share: None)["metrics"]
    networks, outputs = (1, 256) if name.startswith("centralized") else (4, 4)
    assert measured["parameters"] == networks * ((inputs + 1) * 6 + (6 + 1) * outputs)


def test_figures_are_drawn_from_the_results_alone(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes((tiny / "results.json").read_bytes())
    reproduce(tmp_path, plot_only=True)
    drawn = {p.name for p in tmp_path.iterdir()}
    assert drawn == {"results.json", "figure.png", "sizes.png"}
    assert all((tmp_path / name).read_bytes() == (tiny / name).read_bytes() for name in drawn)


@pytest.mark.parametrize("scale", [PAPER, DEMO], ids=lambda s: s.name)
def test_each_policy_is_measured_once_and_seeds_are_its_own(scale: Scale) -> None:
    names = [cell.name for cell in all_cells(scale)]
    assert len(names) == len(set(names))
    rows = {row.name for study in studies(scale).values() for row in study}
    measured = {name.rsplit("_", 1)[0] for name in names if not name.startswith("rules")}
    assert measured <= rows and (scale is DEMO or measured == {row for row in rows if row.split("-")[0] not in RULES})
    assert all({contrast.higher, contrast.lower} <= rows for contrast in contrasts(scale))
    firsts = (scale.data_seed, scale.train_seed, scale.online_seed)
    assert len({first + k for first in firsts for k in range(scale.num_seeds)}) == 3 * scale.num_seeds


@pytest.mark.parametrize(
    ("factor", "least", "most", "met"), [(1.0, 0.0, 9.0, True), (1.15, 0.0, 9.0, False), (1.0, -0.02, 0.02, False)]
)
def test_a_claim_is_about_the_interval_of_paired_differences(
    factor: float, least: float, most: float, met: bool
) -> None:
    """Pairs differ by .1 with hardly any spread, though each policy's own scores spread by .4."""
    lower = [1.0, 1.2, 1.4]
    policies = {
        "a": {"metrics": {"score": by_seed([x + y for x, y in zip(lower, (0.1, 0.101, 0.099), strict=True)])}},
        "b": {"metrics": {"score": by_seed(lower)}},
    }
    claim = Contrast("", "", "a", "b", factor=factor, least=least, most=most).claim(policies)
    assert claim is not None and claim.met is met
    assert claim.measured == pytest.approx(0.1 - (factor - 1.0) * 1.2)


def test_a_delayed_genie_is_the_genie_where_channels_stay() -> None:
    def score(delayed: bool, **config: Any) -> float:
        config = {"episode_slots": 100, "split": "validation", **config}
        measured = evaluate("genie", ENV, config, num_envs=20, episodes=20, params={"delayed": delayed})
        return metrics_of(ENV, measured.statistics)["score"]

    assert score(True, fading="none") == score(False, fading="none")
    assert score(True, user_speed_mps=50.0) < 0.9 * score(False, user_speed_mps=50.0)


class Constant:
    """In place of an algorithm: exports a policy that always chooses one action where that is legal."""

    def __init__(self, action: int) -> None:
        self._action = action

    def export_policy(self, path: Path) -> None:
        env = make_env(ENV, 1)
        bias = torch.zeros(len(env.agents), 1, 4)
        bias[..., self._action] = 1.0
        network = StackedMLP.from_layers([torch.zeros(len(env.agents), 6, 4)], [bias])
        save_policy(NetworkPolicy(network, env.agents, "greedy"), path, env=ENV, env_config={})
