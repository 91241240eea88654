"""The experiment of SCAM-FQI in small."""

import json
from pathlib import Path

import pytest

from rllib_wireless.data.card import read_card
from rllib_wireless.data.sharing_graph import Selection
from rllib_wireless.envs import make_env
from rllib_wireless.envs.sharing import SharingGraph
from rllib_wireless.papers import resumable
from rllib_wireless.papers.experiment import Json
from rllib_wireless.papers.intervals import by_seed
from rllib_wireless.papers.pool import run_side_by_side
from rllib_wireless.papers.scam_fqi import experiment, learning
from rllib_wireless.papers.scam_fqi.claims import Contrast, contrasts
from rllib_wireless.papers.scam_fqi.setup import DEMO, PAPER, RULES, WORLDS, Scale
from rllib_wireless.papers.scam_fqi.studies import all_cells, studies

TINY = Scale(
    "tiny",
    num_seeds=2,
    study_seeds=1,
    steps=3_000,
    iterations=2,
    measured=(1, 2),
    early=(1,),
    test_episodes=3,
    greedy_episodes=2,
    sharing=("own", "1c", "1f", "selected"),
    leaves=(1, 20),
    leaf_sharing=("1c", "all_c"),
    leaf=20,
    selection_rows=100,
    settings={"n_estimators": 2},
)
LEARNED = ("same-own-leaf_20-monte_carlo", "same-1c-leaf_20-monte_carlo")


def reproduce(out: Path, *, plot_only: bool = False) -> Json:
    """The claims and figures of what is there."""
    e = experiment(TINY)
    return resumable.reproduce(e, out, lambda line: None, only="rules-same_0", workers=1, plot_only=plot_only)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rules, and two seeds of two arms."""
    out = tmp_path_factory.mktemp("scam_fqi")
    wanted = {"rules-different_0", *(f"{name}_{seed}" for name in ("rules-same", *LEARNED) for seed in (0, 1))}
    run_side_by_side([cell for cell in all_cells(TINY) if cell.name in wanted], out, 1, lambda line: None)
    reproduce(out)
    return out


def test_the_experiment_runs_in_small(tiny: Path) -> None:
    content = json.loads((tiny / "results.json").read_text())
    assert set(content["policies"]) >= {f"{rule}-same" for rule in RULES} | set(LEARNED)
    own, near = (content["policies"][name] for name in LEARNED)
    assert set(own["curve"]) == {"1", "2"}
    assert own["curve"]["2"]["makespan"]["values"] == own["metrics"]["makespan"]["values"] != [None, None]
    assert own["curve"]["1"]["makespan"]["mean"] == own["metrics"]["early_makespan"]["mean"]
    claims = {claim["id"]: claim for claim in content["claims"]}
    longer, shorter = (policy["metrics"]["makespan"]["mean"] for policy in (own, near))
    assert claims["more-same-own-1c"]["measured"] == pytest.approx(longer - shorter)
    assert not list((tiny / "work").iterdir())


def test_a_selected_graph_is_used_and_equal_seeds_give_equal_results(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the selected graph is the ball of radius 1, all is as with that radius."""
    env = make_env("production_scheduling")
    asked = []

    def select(path: Path, *, rows: int, seed: int) -> Selection:
        asked.append((rows, seed, read_card(path).environment.config["products"]))
        return Selection(env.agents, SharingGraph.ball(20, env.links, 1), {}, [])  # type: ignore[attr-defined]

    monkeypatch.setattr(learning, "select_sharing_graph", select)
    (cell,) = [cell for cell in all_cells(TINY) if cell.name == "same-selected-leaf_20-monte_carlo_1"]
    found = cell.run(tmp_path, lambda name, share: None)
    assert asked == [(100, 1, "A*5")]
    assert found["metrics"].pop("units_seen") == 2 * 27 / 20
    kept = json.loads((tiny / "cells" / f"{LEARNED[1]}_1.json").read_text())
    assert found == {name: kept[name] for name in found}


def test_figures_are_drawn_from_the_results_alone(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes((tiny / "results.json").read_bytes())
    reproduce(tmp_path, plot_only=True)
    assert {p.name for p in tmp_path.iterdir()} == {"results.json", "figure.png"}
    assert (tmp_path / "figure.png").read_bytes() == (tiny / "figure.png").read_bytes()


@pytest.mark.parametrize("scale", [PAPER, DEMO, TINY], ids=lambda s: s.name)
def test_each_policy_is_measured_once_and_claims_are_about_measured_ones(scale: Scale) -> None:
    names = [cell.name for cell in all_cells(scale)]
    assert len(names) == len(set(names))
    rows = {row.name for study in studies(scale).values() for row in study}
    measured = {name.rsplit("_", 1)[0] for name in names if not name.startswith("rules")}
    assert measured == {row for row in rows if row.split("-")[1] not in WORLDS}
    assert all(contrast.weights.keys() <= rows for contrast in contrasts(scale))
    assert scale.measured[-1] == scale.iterations and set(scale.early) <= set(scale.measured)


def test_a_claim_is_about_the_interval_of_paired_sums() -> None:
    """Pairs differ by 10 with hardly any spread, though each policy's own times spread by 40; a third seed has no partner."""
    short = [200.0, 220.0, 240.0]
    metrics = {"a": [210.1, 230.0, 249.9], "b": short, "c": short[:2]}
    policies = {name: {"metrics": {"makespan": by_seed(values)}} for name, values in metrics.items()}
    met = Contrast("", "", {"a": 1.0, "b": -1.0}).claim(policies)
    assert met is not None and met.met and met.measured == pytest.approx(10.0)
    within = Contrast("", "", {"b": 1.03, "a": -1.0}).claim(policies)
    assert within is not None and not within.met and within.measured == pytest.approx(0.03 * 220.0 - 10.0)
    two = Contrast("", "", {"a": 1.0, "c": -1.0}).claim(policies)
    assert two is not None and two.measured == pytest.approx((10.1 + 10.0) / 2)
    assert Contrast("", "", {"a": 1.0, "missing": -1.0}).claim(policies) is None
