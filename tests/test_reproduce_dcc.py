"""DCC's experiment in small, and what its claims make of numbers."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_wireless.errors import UserError
from rllib_wireless.papers import resumable
from rllib_wireless.papers.dcc import main_claims, table
from rllib_wireless.papers.dcc.claims import all_claims
from rllib_wireless.papers.dcc.experiment import all_cells, experiment
from rllib_wireless.papers.dcc.setup import DEMO, LABELS, PAPER, Scale
from rllib_wireless.papers.dcc.theory import LAWS, approximation, gradients
from rllib_wireless.papers.experiment import Json
from rllib_wireless.papers.intervals import by_seed

TINY = Scale(
    "tiny",
    sizes={2: 2},
    long_up_to=2,
    initial={2: 2},
    exponents=(1.0, 2.0),
    exponent_sizes={2: 1},
    starts=("fresh",),
    start_sizes={2: 1},
    small={},
    theory_devices=2,
    theory_seeds=1,
    large=(2, 4),
    ppo={"mappo": {2: 1}, "mappo_long": {2: 1}},
    test_episodes=64,
    settings={"steps": 1000, "rollouts": 5},
    ppo_settings={"num_iterations": 1, "rollout_length": 128},
)
NOTHING: dict[str, list[Json]] = {
    name: []
    for name in (
        "scalability",
        "budget",
        "initial",
        "exponents",
        "starts",
        "gradients",
        "approximation",
        "best",
        "large",
    )
}


def reproduce(out: Path, scale: Scale, *, only: str | None = None, plot_only: bool = False) -> Json:
    return resumable.reproduce(experiment(scale), out, lambda line: None, only=only, workers=1, plot_only=plot_only)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reproduce_dcc")
    reproduce(out, TINY)
    return out


def test_the_experiment_runs_in_small(tiny: Path) -> None:
    content = json.loads((tiny / "results.json").read_text())
    assert content["cells"]["done"] == content["cells"]["of"] == len(all_cells(TINY))
    rows = content["studies"]["scalability"]
    assert {row["arm"]["policy"] for row in rows} == {LABELS[name] for name in LABELS if name not in ("ippo", "a2c")}
    never = next(row for row in rows if row["arm"]["policy"] == LABELS["never"])
    assert never["metrics"]["cost"]["values"] == [1.0, 1.0]
    assert never["metrics"]["offload_frequency"]["values"] == [0.0, 0.0]
    assert {
        "scale-dcc-iql-2",
        "lambda-cpu-2",
        "initial-end-2",
        "gradient-lambda-1",
        "approximation-exact-fresh",
        "large-hour",
    } <= {claim["id"] for claim in main_claims(content)}
    assert len(table(content)) == len(rows)


def test_dcc_has_learned_for_as_many_slots_as_its_rival(tiny: Path) -> None:
    cell = json.loads((tiny / "cells" / "scale_2_0.json").read_text())["arms"]
    slots = {name: cell[name]["trace"][-1]["slots"] for name in ("dcc", "dcc_lambda", "dcc_overlap", "iql", "iql_long")}
    assert slots == {"dcc": 16_000, "dcc_lambda": 6_000, "dcc_overlap": 16_000, "iql": 16_000, "iql_long": 96_000}


def test_figures_are_drawn_from_the_results_alone(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes((tiny / "results.json").read_bytes())
    reproduce(tmp_path, TINY, plot_only=True)
    drawn = {p.name for p in tmp_path.glob("*.png")}
    assert drawn == {f"{name}.png" for name in ("figure", "budget", "exponents", "initial", "approximation")}
    assert all((tmp_path / name).read_bytes() == (tiny / name).read_bytes() for name in drawn)


def test_a_folder_holds_cells_of_one_setting(tiny: Path) -> None:
    with pytest.raises(UserError, match="computed with other test_episodes"):
        reproduce(tiny, dataclasses.replace(TINY, test_episodes=65))


@pytest.mark.parametrize("scale", [PAPER, DEMO], ids=lambda s: s.name)
def test_each_cell_is_there_once_and_test_environments_are_nobody_elses(scale: Scale) -> None:
    names = [cell.name for cell in all_cells(scale)]
    assert len(names) == len(set(names))
    most = max(*scale.sizes.values(), *scale.initial.values(), scale.theory_seeds)
    tested = range(scale.environment_seed, scale.environment_seed + most)
    assert scale.training_seed not in tested and not set(tested) & set(range(35))


# ------------------------------------------------------------------------------------------------ theory


def test_linear_penalties_are_exact_on_average_and_not_from_a_common_start() -> None:
    laws = approximation(TINY, 1.0, 0, Path(), lambda name, share: None)["laws"]
    errors = {law: abs(laws[law]["true"] / laws[law]["approximate"] - 1.0) for law in LAWS}
    assert errors["average"] < 1e-9 and laws["average"]["bound"] == pytest.approx(0.0, abs=1e-12)
    assert errors["full"] > 0.005


def test_nonlinear_penalties_reach_the_bound_on_average() -> None:
    for alpha in (0.5, 2.0):
        found = approximation(TINY, alpha, 1, Path(), lambda name, share: None)["laws"]["average"]
        error = abs(found["true"] - found["approximate"])
        assert error == pytest.approx(found["bound"]) and error > 1e-6  # of two devices the bound is the error


def test_derivatives_have_the_signs_and_sizes_of_proposition_3() -> None:
    for device in gradients(TINY, 1.0, 0, Path(), lambda name, share: None)["devices"]:
        assert device["local_finite"] < 0 < device["coupling_finite"]
        assert device["local_right"] == pytest.approx(device["minus_lambda"], rel=1e-3)
        assert device["coupling_left"] == pytest.approx(device["slope_usage"], rel=1e-3)


# ------------------------------------------------------------------------------------------------ claims


def row(arm: Json, **metrics: list[float]) -> Json:
    return {"arm": arm, "metrics": {name: by_seed(values) for name, values in metrics.items()}}


@pytest.mark.parametrize(("gap", "met"), [(-0.05, True), (0.05, False)])
def test_a_comparison_is_paired_by_environment(gap: float, met: bool) -> None:
    theirs = np.array([0.8, 0.6, 0.9])
    ours = theirs + gap + np.array([0.001, -0.001, 0.0])  # the spread between environments is far larger
    rows = [
        row({"devices": 10, "policy": LABELS[name]}, cost=list(cost), offload_frequency=[0.1, 0.1, 0.1])
        for name, cost in (("dcc", ours), ("iql", theirs))
    ]
    claims = {claim.id: claim for claim in all_claims({**NOTHING, "scalability": rows})}
    assert claims["scale-dcc-iql-10"].met is met and claims["scale-dcc-iql-10"].measured == pytest.approx(gap)
    assert not claims["scale-often-10"].met  # as often is not less often


@pytest.mark.parametrize(("worst", "met"), [(1e-7, True), (1e-3, False)])
def test_exact_means_in_every_system(worst: float, met: bool) -> None:
    arm: dict[str, Any] = {"alpha": "1", "start law": "fresh"}
    rows = [row(arm, error=[0.0, 0.0, worst], bound=[0.0] * 3, within_bound=[1.0] * 3)]
    (claim,) = all_claims({**NOTHING, "approximation": rows})
    assert claim.met is met


def test_one_environment_decides_nothing() -> None:
    rows = [row({"devices": 10, "policy": LABELS[name]}, cost=[c]) for name, c in (("dcc", 0.5), ("iql", 0.9))]
    assert all_claims({**NOTHING, "scalability": rows}) == []


def test_mappo_that_comes_nearer_to_dccs_frequency_is_told_from_one_that_goes_away() -> None:
    for longer, met in (([0.21, 0.211], True), ([0.40, 0.401], False)):
        rows = [
            row({"devices": 10, "policy": LABELS[name]}, cost=[0.8, 0.8], offload_frequency=often)
            for name, often in (("dcc", [0.20, 0.20]), ("mappo", [0.25, 0.251]), ("mappo_long", longer))
        ]
        claims = {claim.id: claim for claim in all_claims({**NOTHING, "scalability": rows})}
        assert claims["scale-longer-often-10"].met is met
        assert claims["scale-longer-often-10"].measured == pytest.approx(-0.04 if met else 0.15)
