"""Measure the rules of `production_scheduling`, on the serial clock beside published dynamics.

Writes docs/environments/production_scheduling.csv, which the documentation shows. Takes about two minutes on one core.

    python examples/production_scheduling_rules.py
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from rllib_wireless.envs import env_spec
from rllib_wireless.policies import evaluate

ROOT = Path(__file__).parents[1]
ENV = "production_scheduling"
PRODUCTS = ("A*3", "A,B,C", "A*5", "A,B,C,D,E")
METRICS = ("makespan", "mean_completion_time", "decisions", "deferral_rate", "conflict_rate", "livelock")
# Mean, standard deviation and number of episodes of the published dynamics, 4x5 plant, action masks on.
PUBLISHED: Mapping[tuple[str, str], tuple[float, float, int]] = {
    ("uniform", "A*3"): (634, 171, 25),
    ("uniform", "A,B,C"): (677, 141, 20),
    ("uniform", "A*5"): (964, 171, 20),
    ("uniform", "A,B,C,D,E"): (1090, 210, 25),
    ("uniform_no_defer", "A,B,C"): (531, 135, 20),
    ("uniform_no_defer", "A*5"): (731, 148, 20),
}


def main(
    out: Path = ROOT / "docs/environments", episodes: int = 1024, products: Sequence[str] = PRODUCTS
) -> list[dict[str, Any]]:
    """Write `production_scheduling.csv` into a folder; returns its rows."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [*on_parallel_clock(episodes, products), *beside_published(episodes, products)]
    pd.DataFrame(rows).to_csv(out / "production_scheduling.csv", index=False, float_format="%.4g")
    return rows


def on_parallel_clock(episodes: int, products: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Every rule on the default clock."""
    for made in products:
        for rule in env_spec(ENV).rules:
            yield measured(rule, made, "parallel", episodes)


def beside_published(episodes: int, products: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Random routing on the serial clock, and what the published dynamics took."""
    for (rule, made), (mean, deviation, count) in PUBLISHED.items():
        if made in products:
            published = {"published_makespan": mean, "published_standard_error": deviation / count**0.5}
            yield measured(rule, made, "serial", episodes) | published


def measured(rule: str, products: str, clock: str, episodes: int) -> dict[str, Any]:
    """Metrics of a rule, and the standard error of the makespan."""
    statistics = evaluate(
        rule, ENV, {"products": products, "clock": clock}, num_envs=min(episodes, 256), episodes=episodes
    ).statistics
    found = {m.name: m.reduce(statistics) for m in env_spec(ENV).metrics if m.name in METRICS}
    error = statistics["end_ticks"].std() / len(statistics["end_ticks"]) ** 0.5
    return {"clock": clock, "products": products, "rule": rule} | found | {"standard_error": error}


if __name__ == "__main__":
    main()
