"""Validate `channel_access`: backoff rules against an independent Monte Carlo simulation and against Bianchi's model.

Writes docs/environments/channel_access.csv and .png, which the documentation shows. Takes about a minute on one core.

    python examples/channel_access_validation.py
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from scipy.optimize import brentq

from rllib_wireless.envs import env_spec
from rllib_wireless.envs.channel_access import BackoffConfig, event_kernel
from rllib_wireless.policies import evaluate

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # the backend without a screen must be chosen first

ROOT = Path(__file__).parents[1]
ENV = "channel_access"
SIZES = tuple(range(2, 15))
RULES = ("ac_vo", "ac_vi", "ac_be", "csma_ca")
PACKET, BUSY = 120, 124  # slots; a busy period ends with DIFS
METRICS = ("throughput_ratio", "collision_rate", "collision_probability", "short_term_fairness")
LABELS = {
    "tdma": "TDMA (bound)",
    "csma_eca": "CSMA/ECA, V = 15",
    "ac_be": "AC_BE 31-1023",
    "ac_vi": "AC_VI 15-31",
    "csma_ca": "CSMA/CA 7-1023",
    "ac_vo": "AC_VO 7-15",
}


def main(out: Path = ROOT / "docs/environments", sizes: Sequence[int] = SIZES, busy_periods: int = 30_000) -> None:
    out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([row for n in sizes for row in validate(n, busy_periods)])
    table.to_csv(out / "channel_access.csv", index=False, float_format="%.3f")
    draw(table, out / "channel_access.png")


def validate(n: int, busy_periods: int) -> Iterable[dict[str, Any]]:
    """One row per rule and countdown: what we simulate, and what others say."""
    reference = pd.read_csv(ROOT / "tests/reference/backoff_rules.csv", comment="#").query(f"num_stations == {n}")
    published: dict[Any, Any] = reference.drop(columns="num_stations").set_index(["rule", "countdown"]).to_dict("index")
    for rule in RULES:
        for countdown in ("freeze", "bianchi"):
            row = {
                "num_stations": n,
                "rule": rule,
                "countdown": countdown,
                **simulate(rule, n, countdown, busy_periods),
            }
            row |= {f"monte_carlo_{name}": value for name, value in published[rule, countdown].items()}
            yield row | (bianchi(rule, n) if countdown == "bianchi" else {})
    # The fixed cycle of CSMA/ECA takes long to establish itself near its capacity.
    yield {"num_stations": n, "rule": "csma_eca", "countdown": "freeze"} | simulate(
        "csma_eca", n, "freeze", busy_periods, warmup=10 * busy_periods
    )
    measured = evaluate("tdma", ENV, {"num_stations": n}, num_envs=8, steps=40 * n).metrics()
    yield {"num_stations": n, "rule": "tdma", "countdown": ""} | {name: measured[name]["mean"] for name in METRICS}


def simulate(rule: str, n: int, countdown: str, busy_periods: int, warmup: int = 5_000) -> dict[str, float]:
    """Metrics of eight copies of a saturated channel."""
    config = {"num_stations": n, "countdown": countdown}
    statistics = event_kernel.simulate(rule, config, busy_periods=busy_periods, warmup=warmup, num_envs=8)
    return {m.name: m.reduce(statistics) for m in env_spec(ENV).metrics if m.name in METRICS}


def bianchi(rule: str, n: int) -> dict[str, float]:
    """Bianchi's fixed point (IEEE JSAC 18(3), 2000) without a retry limit: p = 1 - (1 - tau(p)) ** (n - 1)."""
    params = BackoffConfig.parse(env_spec(ENV).rules[rule].defaults or {})
    assert isinstance(params.cw_min, int) and isinstance(params.cw_max, int)
    window = params.cw_min + 1
    doublings = round(math.log2((params.cw_max + 1) / window))

    def tau(p: float) -> float:
        return 2 / (1 + window + p * window * sum((2 * p) ** i for i in range(doublings)))

    p = float(brentq(lambda p: 1 - (1 - tau(p)) ** (n - 1) - p, 0.0, 1.0))
    idle, success = (1 - tau(p)) ** n, n * tau(p) * (1 - tau(p)) ** (n - 1)
    return {
        "bianchi_throughput_ratio": PACKET * success / (idle + (1 - idle) * BUSY),
        "bianchi_collision_rate": 1 - success / (1 - idle),
        "bianchi_collision_probability": p,
    }


def draw(table: pd.DataFrame, path: Path) -> None:
    """Lines are ours, circles the Monte Carlo simulation with freezing counters."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    titles = ("throughput ratio", "collisions / busy periods", "short-term fairness (Jain, 10 N successes)")
    for axis, metric, title in zip(
        axes, ("throughput_ratio", "collision_rate", "short_term_fairness"), titles, strict=True
    ):
        for rule, label in LABELS.items():
            rows = table[(table.rule == rule) & (table.countdown != "bianchi")]
            (line,) = axis.plot(rows.num_stations, rows[metric], label=label, linewidth=1.5)
            if f"monte_carlo_{metric}" in table:
                points = {"linestyle": "none", "marker": "o", "markersize": 4, "markerfacecolor": "none"}
                axis.plot(rows.num_stations, rows[f"monte_carlo_{metric}"], color=line.get_color(), **points)
        axis.set(xlabel="stations N", title=title, ylim=(0, None if metric == "collision_rate" else 1.03))
        axis.grid(alpha=0.3)
    axes[0].plot([], [], "ko", markersize=4, markerfacecolor="none", label="Monte Carlo")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
