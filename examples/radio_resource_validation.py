"""Validate `radio_resource`: its rules against an independent simulator's, and ITLinQ's parameters tuned.

Writes docs/environments/radio_resource.csv and .png, which the documentation shows. Takes about two minutes on one core.

    python examples/radio_resource_validation.py
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from rllib_wireless.envs import make_env
from rllib_wireless.envs.radio_resource import RadioResource
from rllib_wireless.envs.radio_resource.metrics import score
from rllib_wireless.policies import Evaluation, evaluate

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # the backend without a screen must be chosen first

ROOT = Path(__file__).parents[1]
ENV = "radio_resource"
METRICS = ("mean_rate", "sum_rate", "tail_rate", "score", "score_per_episode")
# mean_rate, sum_rate, tail_rate, score, score_per_episode of an independent simulator of the same setting: 100 drops, 40
# of the genie; the standard error of its score is .015 to .02, .035 of the genie.
CALIBRATION: Mapping[tuple[str, float], tuple[float, ...]] = {
    ("random", 0.8): (0.559, 13.4, 0.161, 1.04, 1.11),
    ("tdm", 0.8): (0.463, 11.1, 0.134, 0.86, 0.92),
    ("full_reuse", 0.8): (0.615, 14.8, 0.164, 1.11, 1.18),
    ("itlinq", 0.8): (0.619, 14.8, 0.166, 1.12, 1.19),
    ("genie", 0.0): (0.965, 23.1, 0.010, 1.00, 1.11),
    ("genie", 0.5): (0.868, 20.8, 0.230, 1.56, 1.65),
    ("genie", 0.8): (0.787, 18.9, 0.281, 1.63, 1.74),
    ("genie", 1.0): (0.748, 17.9, 0.297, 1.64, 1.75),
}
# Scores of TDM and of full reuse by side of the area: 60 drops.
AREAS: Mapping[int, tuple[float, float]] = {
    100: (1.46, 0.92),
    200: (1.23, 0.98),
    350: (1.00, 1.05),
    500: (0.82, 1.11),
    700: (0.66, 1.09),
    1000: (0.51, 1.04),
}
UNTUNED = {"margin_db": 25.0, "exponent": 0.5}
MARGINS_DB = (-10, 0, 10, 15, 20, 25, 30)
EXPONENTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LABELS = {"random": "random walk", "tdm": "TDM", "full_reuse": "full reuse", "itlinq": "ITLinQ", "genie": "genie"}


def main(
    out: Path = ROOT / "docs/environments",
    drops: int = 100,
    areas: Sequence[int] = tuple(AREAS),
    margins_db: Sequence[float] = MARGINS_DB,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rows = [*calibrate(drops), *sweep_areas(2 * drops, areas), *tune_itlinq(2 * drops, margins_db)]
    pd.DataFrame(rows).to_csv(out / "radio_resource.csv", index=False, float_format="%.3f")
    draw(out / "radio_resource.png", drops)


def run(
    rule: str, drops: int, config: Mapping[str, Any], params: Mapping[str, Any] | None = None, split: str = "test"
) -> Evaluation:
    """A rule on drops of one split."""
    return evaluate(rule, ENV, {"split": split, **config}, num_envs=drops, episodes=drops, params=params)


def measured(evaluation: Evaluation) -> dict[str, float]:
    """Metrics, and the standard error of the score by its bootstrap interval."""
    metrics = evaluation.metrics()
    lower, upper = metrics["score"]["ci95"]
    return {name: metrics[name]["mean"] for name in METRICS} | {"standard_error": (upper - lower) / (2 * 1.96)}


def calibrate(drops: int) -> Iterable[dict[str, Any]]:
    """The paper's setting, with the untuned ITLinQ that the other simulator had."""
    for (rule, exponent), reference in CALIBRATION.items():
        params = UNTUNED if rule == "itlinq" else None
        found = measured(run(rule, drops, {"fairness_exponent": exponent}, params))
        published = {f"reference_{name}": value for name, value in zip(METRICS, reference, strict=True)}
        yield {"study": "calibration", "rule": rule, "fairness_exponent": exponent} | found | published


def sweep_areas(drops: int, areas: Sequence[int]) -> Iterable[dict[str, Any]]:
    """Squares of other sizes."""
    for area in areas:
        for rule, reference in zip(("tdm", "full_reuse"), AREAS[area], strict=True):
            found = measured(run(rule, drops, {"area_m": area}))
            kept = {name: found[name] for name in ("score", "standard_error")}
            yield {"study": "area", "rule": rule, "area_m": area} | kept | {"reference_score": reference}


def tune_itlinq(drops: int, margins_db: Sequence[float]) -> Iterable[dict[str, Any]]:
    """ITLinQ on validation drops; the best one is the rule's default."""
    for margin in margins_db:
        row: dict[str, Any] = {"study": "itlinq", "margin_db": margin}
        for exponent in EXPONENTS:
            params = {"margin_db": margin, "exponent": exponent}
            row[f"score_at_{exponent}"] = score(run("itlinq", drops, {}, params, "validation").statistics)
        yield row


def draw(path: Path, drops: int) -> None:
    """A drop, and the distribution of users' rates under each rule."""
    figure, (area, rates) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    env = make_env(ENV, split="test")
    assert isinstance(env, RadioResource)
    env.reset()
    users, points = env.drops.users[0], env.drops.access_points[0]
    for i, point in enumerate(points):
        own = users[env.drops.serving[0] == i]
        color = f"C{i}"
        for user in own:
            area.plot(*zip(point, user, strict=True), color=color, linewidth=0.7, zorder=1)
        area.scatter(*own.T, color=color, s=18, zorder=2)
        area.scatter(*point, color=color, s=110, marker="^", edgecolor="black", zorder=3)
        area.annotate(env.agents[i], point, xytext=(7, 5), textcoords="offset points", fontsize=9)
    area.set(xlim=(0, 500), ylim=(0, 500), aspect="equal", xlabel="m", ylabel="m")
    area.set_title("a drop: triangles are access points, lines who serves whom", fontsize=10)
    for rule, label in LABELS.items():
        statistics = run(rule, drops, {}).statistics
        values = np.sort((statistics["rate"] / statistics["user_slots"]).ravel())
        share = (np.arange(values.size) + 1) / values.size
        rates.plot(values, share, label=label, linestyle="--" if rule == "genie" else "-", linewidth=1.5)
    rates.axhline(0.05, color="grey", linewidth=0.7, linestyle=":")
    rates.set(xlim=(0, 2.5), ylim=(0, 1), xlabel="rate of a user over an episode (bit/s/Hz)", ylabel="share of users")
    rates.set_title("rates of users; the tail rate is where a curve meets 5 %", fontsize=10)
    rates.grid(alpha=0.3)
    rates.legend(fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
