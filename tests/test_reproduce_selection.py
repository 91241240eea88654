"""The experiment of choosing without a simulator, in small."""

import json
from pathlib import Path

import numpy as np
import pytest

from rllib_wireless.papers import resumable
from rllib_wireless.papers.experiment import Json
from rllib_wireless.papers.learning import Test as Measurement
from rllib_wireless.papers.pool import run_side_by_side
from rllib_wireless.papers.selection import all_cells, experiment, table
from rllib_wireless.papers.selection.ranking import claims, judged, rank_correlation, regret, tables
from rllib_wireless.papers.selection.setup import DEMO, JUDGES, PAPER, WORLDS, Scale

TINY = Scale(
    "tiny",
    steps=600,
    worlds=("channel_access",),
    sources=2,
    judges=("fqe", "importance"),
    judge_settings={"steps": 20},
    test=Measurement(copies=16, steps=500),
)


def reproduce(out: Path, *, plot_only: bool = False) -> Json:
    """The claims and figures of what is there."""
    e = experiment(TINY)
    return resumable.reproduce(e, out, lambda line: None, only=None, workers=1, plot_only=plot_only)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("selection")
    run_side_by_side(all_cells(TINY), out, 1, lambda line: None)
    reproduce(out)
    return out


def test_the_experiment_runs_in_small(tiny: Path) -> None:
    content = json.loads((tiny / "results.json").read_text())
    policies = content["policies"]["channel_access"]
    assert len(policies) == 9 and all(set(p["estimates"]) == {"fqe", "importance"} for p in policies.values())
    quiet, random = policies["csma_eca-8-0"], policies["csma_eca-8-0.2"]
    assert quiet["truth"] - random["truth"] > 5 * (quiet["error"] + random["error"]) > 0.0
    assert {claim["id"] for claim in content["claims"]} == {"rank-channel_access", "regret-channel_access"}
    assert [row["policy"] for row in table(content)] == [f"channel_access: {JUDGES[j].label}" for j in TINY.judges]
    assert not list((tiny / "work").iterdir())


def test_figures_are_drawn_from_the_results_alone(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes((tiny / "results.json").read_bytes())
    reproduce(tmp_path, plot_only=True)
    assert {p.name for p in tmp_path.iterdir()} == {"results.json", "figure.png"}
    assert (tmp_path / "figure.png").read_bytes() == (tiny / "figure.png").read_bytes()


@pytest.mark.parametrize("scale", [PAPER, DEMO, TINY], ids=lambda s: s.name)
def test_cells_are_there_once_and_policies_are_many(scale: Scale) -> None:
    names = [cell.name for cell in all_cells(scale)]
    assert len(names) == len(set(names))
    for world in scale.worlds if scale is PAPER else ():
        sources = WORLDS[world].sources.values()
        assert sum(len(s.kept) * len(s.epsilons) for s in sources) >= 20
    assert len({scale.data_seed, scale.train_seed, scale.test_seed, scale.judge_seed}) == 4


def made_up(guesses: list[float | None], truths: list[float], metrics: list[float | None]) -> Json:
    return {
        f"csma_ca-1-{number}": {
            "truth": truth,
            "error": 0.0,
            "metrics": {"throughput_ratio": metric},
            "estimates": {"fqe": {"value": guess, "ci95": [0.0, 2.5], "cpu_seconds": 1.0}},
        }
        for number, (guess, truth, metric) in enumerate(zip(guesses, truths, metrics, strict=True))
    }


def test_judges_are_judged_by_ranks_and_by_what_their_choice_costs() -> None:
    """One swap of neighbours among four: 1 - 6 * 2 / (4 * 15) = .8; the second best of 1, 2, 3, 5 is chosen."""
    found = judged(made_up([0.1, 0.2, 0.9, 0.8], [1.0, 2.0, 3.0, 5.0], [1.0, None, 3.0, 4.0]), "channel_access", "fqe")
    assert found["rank_correlation"]["mean"] == pytest.approx(0.8)
    assert found["regret"]["mean"] == pytest.approx(0.5)
    assert found["metric_regret"]["mean"] == pytest.approx(1 / 3)
    assert found["coverage"]["mean"] == 0.5


def test_what_cannot_be_estimated_ranks_last() -> None:
    assert judged(made_up([None, 0.2, 0.3], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), "channel_access", "fqe")["regret"][
        "mean"
    ] == pytest.approx(0.0)
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3.0)))
    assert regret(np.arange(3.0), np.ones(3)) == 0.0


def test_a_claim_is_about_the_default_estimate() -> None:
    policies = {"channel_access": made_up([3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])}
    scale = Scale("one", steps=1, worlds=("channel_access",), judges=("fqe",))
    ranks, lost = claims(scale, policies)
    assert (ranks.measured, ranks.met) == (-1.0, False)
    assert (lost.measured, lost.met) == (1.0, False)
    assert set(tables(scale, policies)) == {"channel_access", "channel_access_policies"}
