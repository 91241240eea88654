"""Experiments as cells side by side, and FedMORL's experiment at the paper's scale in small."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import toy_cells
from scipy import stats

from rllib_wireless.algorithms.fedmorl.aggregation import aggregate
from rllib_wireless.algorithms.fedmorl.client import ClientUpdate
from rllib_wireless.errors import UserError
from rllib_wireless.papers import resumable
from rllib_wireless.papers.experiment import Json
from rllib_wireless.papers.fedmorl import attack, paper_scale
from rllib_wireless.papers.fedmorl.claims import all_claims
from rllib_wireless.papers.fedmorl.setup import LABELS, PAPER, Scale
from rllib_wireless.papers.intervals import by_seed, estimate, paired
from rllib_wireless.papers.learning import Test as Measurement
from rllib_wireless.papers.pool import run_side_by_side

TINY = Scale(
    "tiny",
    num_stations=(2,),
    num_seeds=2,
    test=Measurement(copies=2, steps=200, warmup_steps=20),
    data_steps=600,
    rule_busy_periods=200,
    rule_warmup=20,
    eca_warmup=100,
    study_seeds=1,
    shards=(60, 120, 200),
    settings={
        "rounds": 2,
        "local_steps": 3,
        "clone_steps": 5,
        "self_play_updates": 2,
        "policy_steps": 5,
        "planner_anchors": 16,
        "rollout_starts": 64,
        "model_hiddens": (8,),
        "policy_hiddens": (8,),
    },
)
TWO_CELLS = """
import sys
from pathlib import Path
from toy_cells import cell
from rllib_wireless.papers.pool import run_side_by_side
if __name__ == "__main__":
    run_side_by_side([cell("count", "quick"), cell("wait_for_go", "slow")], Path(sys.argv[1]), 1, print)
"""


def reproduce(out: Path, scale: Scale, *, only: str | None = None, plot_only: bool = False) -> Json:
    experiment = paper_scale.experiment(scale)
    return resumable.reproduce(experiment, out, lambda line: None, only=only, workers=1, plot_only=plot_only)


def test_cells_are_run_once_and_only_those_wanted(tmp_path: Path) -> None:
    cells = [toy_cells.cell("count", name) for name in ("a_1", "a_2", "b_1")]
    lines: list[str] = []
    results = run_side_by_side(cells, tmp_path, 2, lines.append, only="a_")
    assert set(results) == {"a_1", "a_2"} and not (tmp_path / "b_1.runs").exists()
    assert len(lines) == 2 and lines[-1].startswith("2 of 2")
    assert set(run_side_by_side(cells, tmp_path, 2, lines.append)) == {"a_1", "a_2", "b_1"}
    assert [toy_cells.runs(tmp_path, cell.name) for cell in cells] == [1, 1, 1]
    with pytest.raises(UserError, match=r"no cell 'c'.*a_1, a_2, b_1"):
        run_side_by_side(cells, tmp_path, 2, lines.append, only="c")


def test_a_dead_worker_and_a_failed_cell_cost_nothing_else(tmp_path: Path) -> None:
    kinds = {"one": "die_once", "two": "count", "three": "fail", "four": "die", "five": "count"}
    cells = [toy_cells.cell(kind, name) for name, kind in kinds.items()]
    with pytest.raises(UserError, match=r"2 cells failed: three, four.*too few fingers"):
        run_side_by_side(cells, tmp_path, 1, lambda line: None)
    assert {p.stem for p in (tmp_path / "cells").glob("*.json")} == {"one", "two", "five"}
    assert [toy_cells.runs(tmp_path, name) for name in kinds] == [2, 1, 1, 2, 1]


def test_a_killed_driver_takes_its_workers_along_and_loses_only_what_was_running(tmp_path: Path) -> None:
    script = tmp_path / "two_cells.py"
    script.write_text(TWO_CELLS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    driver = subprocess.Popen([sys.executable, script, tmp_path], env=environment)
    while not (tmp_path / "pid").exists():
        assert driver.poll() is None
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    worker = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):  # pytest's time-out ends this where the worker lives on
        while True:
            os.kill(worker, 0)
            time.sleep(0.02)
    assert not (tmp_path / "cells" / "slow.json").exists()
    (tmp_path / "go").touch()
    cells = [toy_cells.cell("count", "quick"), toy_cells.cell("wait_for_go", "slow")]
    assert set(run_side_by_side(cells, tmp_path, 1, lambda line: None)) == {"quick", "slow"}
    assert toy_cells.runs(tmp_path, "quick") == 1 and toy_cells.runs(tmp_path, "slow") == 2


def test_intervals_are_those_of_scipy() -> None:
    values = [0.81, 0.84, 0.79, 0.83, 0.82]
    wanted = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert estimate([*values, None])["ci95"] == pytest.approx([wanted.low, wanted.high])
    others = [0.80, 0.80, 0.80, 0.81, 0.79]
    wanted = stats.ttest_rel(values, others).confidence_interval(0.95)
    assert paired(values, others)["ci95"] == pytest.approx([wanted.low, wanted.high])
    assert estimate([0.5])["ci95"] == [None, None] and estimate([float("nan")])["mean"] is None


def curves_with(plan_throughput: list[float]) -> Json:
    """Curves at N = 2 and 3 in which all are alike, but for the planner at N = 3."""
    same = {
        "throughput_ratio": [0.80, 0.81, 0.79],
        "short_term_fairness": [0.9, 0.9, 0.9],
        "collision_rate": [0.1, 0.1, 0.1],
        "mean_delay_ms": [100.0, 100.0, 100.0],
    }
    curves: Json = {name: {n: {m: by_seed(v) for m, v in same.items()} for n in "23"} for name in LABELS}
    curves["plan"]["3"]["throughput_ratio"] = by_seed(plan_throughput)
    return curves


@pytest.mark.parametrize(
    ("loss", "met"), [(0.005, True), (0.02, False)], ids=["within the margin", "beyond the margin"]
)
def test_a_claim_about_every_n_shows_the_worst_n(loss: float, met: bool) -> None:
    curves = curves_with([0.80 - loss, 0.81 - loss - 0.001, 0.79 - loss + 0.001])
    claims = {claim.id: claim for claim in all_claims(curves)}
    every = claims["plan-ac_be-throughput_ratio-every"]
    assert every.met is met and every.measured == pytest.approx(-loss) and "worst at N = 3" in every.claim
    assert claims["plan-ac_be-throughput_ratio-2"].met and claims["plan-ac_be-throughput_ratio-3"].met is met
    assert not claims["plan-csma_ca-throughput_ratio-every"].met  # not above where it is equal
    assert claims["roll-ac_be-collision_rate-every"].met


def test_one_poisoned_client_of_eight_turns_the_mean_round_and_not_the_median() -> None:
    incoming = {"w": np.ones(3, np.float32)}
    honest = ClientUpdate({"w": np.full(3, 2.0, np.float32)}, 100, {})
    updates = [honest] * 7 + [attack.poison(honest, incoming)]
    assert (aggregate(updates, "fedavg")["w"] < 1.0).all()
    assert np.array_equal(aggregate(updates, "median", 1)["w"], honest.weights["w"])


def test_the_scale_of_the_paper_has_each_cell_once_and_seeds_of_its_own() -> None:
    names = [cell.name for cell in paper_scale.all_cells(PAPER)]
    assert len(names) == len(set(names))
    assert sum(name.startswith(("plan_", "roll_", "play_")) for name in names) == 13 * 5 * 3
    seeds = [range(first, first + PAPER.num_seeds) for first in (PAPER.data_seed, PAPER.train_seed, PAPER.test_seed)]
    assert len({seed for numbers in seeds for seed in numbers}) == 3 * PAPER.num_seeds


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The headline in small, and one cell of a study."""
    out = tmp_path_factory.mktemp("reproduce")
    wanted = ("rules_", "plan_", "roll_", "play_", "study_attack_krum_poisoned")
    run_side_by_side([c for c in paper_scale.all_cells(TINY) if c.name.startswith(wanted)], out, 1, lambda line: None)
    reproduce(out, TINY, only="rules_")
    return out


def test_the_experiment_runs_in_small_and_leaves_only_results(tiny: Path) -> None:
    content = json.loads((tiny / "results.json").read_text())
    assert content["cells"]["done"] == 8
    assert all(len(points["2"]["throughput_ratio"]["values"]) == 2 for points in content["curves"].values())
    assert {c["id"] for c in content["claims"]} >= {
        f"{v}-{o}-throughput_ratio-2" for v in ("plan", "roll", "play") for o in ("ac_be", "csma_ca")
    }
    (row,) = content["studies"]["attack"]
    assert row["arm"] == {"aggregation": "krum", "poisoned": "one client"} and row["metrics"]["model_loss"]["n"] == 1
    assert content["seconds"].keys() == {p.stem for p in (tiny / "cells").glob("*.json")}
    assert not list((tiny / "work").iterdir())


def test_figures_are_drawn_from_the_results_alone(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes((tiny / "results.json").read_bytes())
    reproduce(tmp_path, TINY, plot_only=True)
    drawn = {p.name for p in tmp_path.iterdir()}
    assert drawn == {"results.json", "figure.png", "mixture.png", "federation.png"}
    assert all((tmp_path / name).read_bytes() == (tiny / name).read_bytes() for name in drawn)
    with pytest.raises(UserError, match=r"no results\.json"):
        reproduce(tmp_path / "none", TINY, plot_only=True)


def test_a_folder_holds_cells_of_one_setting(tiny: Path) -> None:
    longer = dataclasses.replace(TINY, data_steps=601)
    with pytest.raises(UserError, match="computed with other data_steps; give another folder"):
        reproduce(tiny, longer, only="rules_")


def test_equal_seeds_give_equal_cells(tiny: Path, tmp_path: Path) -> None:
    (cell,) = [cell for cell in paper_scale.all_cells(TINY) if cell.name == "plan_2_1"]
    kept = json.loads((tiny / "results.json").read_text())["curves"]["plan"]["2"]
    metrics = cell.run(tmp_path, lambda name, share: None)["metrics"]
    assert metrics == {name: values["values"][1] for name, values in kept.items()}
