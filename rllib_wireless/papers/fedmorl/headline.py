"""Figure 1: learned policies and rules against the number of stations, and what the paper claims of them."""

import itertools
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from rllib_wireless.envs.channel_access import event_kernel
from rllib_wireless.papers.experiment import Cell, Json, Progress
from rllib_wireless.papers.fedmorl.learning import ENV, METRICS, learn, metrics_of
from rllib_wireless.papers.fedmorl.setup import LABELS, RULES, VARIANTS, Scale
from rllib_wireless.papers.intervals import by_seed
from rllib_wireless.policies.evaluation import evaluate

_COPIES = 16


def headline_cells(s: Scale) -> list[Cell]:
    """Rules at every N, then training seed after training seed, so that a run cut short has all N with fewer seeds."""
    rules = [Cell(f"rules_{n}", partial(_rules, s, n), cost=n / 4) for n in s.num_stations]
    learned = []
    for seed in range(s.num_seeds):
        for n in s.num_stations:
            for name, variant in VARIANTS.items():
                cell = f"{name}_{n}_{seed}"
                learned.append(Cell(cell, partial(learn, s.run(cell, variant, n, seed)), cost=4 + n))
    return [*rules, *learned]


def curves(s: Scale, results: Mapping[str, Json]) -> Json:
    """Every policy's metrics by N, as far as there are results: `values` by seed, their mean and its interval."""
    return {
        name: {str(n): _point(values) for n in s.num_stations if (values := _values(s, results, name, n))}
        for name in LABELS
    }


def _values(s: Scale, results: Mapping[str, Json], name: str, n: int) -> list[dict[str, float]]:
    """The metrics of seeds 0, 1, ..., up to the first that is not done: number k of one list is paired with k of another."""
    if name in RULES:
        rules = results.get(f"rules_{n}")
        return list(rules["rules"][name]) if rules else []
    cells = (results.get(f"{name}_{n}_{seed}") for seed in range(s.num_seeds))
    return [cell["metrics"] for cell in itertools.takewhile(bool, cells) if cell]


def _point(values: list[dict[str, float]]) -> Json:
    return {metric: by_seed([v[metric] for v in values]) for metric in METRICS}


def _rules(s: Scale, n: int, out: Path, progress: Progress) -> Json:
    """The rules on every test seed."""
    config = {"num_stations": n}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RULES}
    for seed in range(s.test_seed, s.test_seed + s.num_seeds):
        for name in RULES:
            if name == "tdma":
                measured = evaluate(
                    "tdma", ENV, config, num_envs=2, steps=s.test.steps, warmup_steps=s.test.warmup_steps, seed=seed
                )
                found[name].append(metrics_of(measured.statistics))
                continue
            warmup = {"csma_eca_cold": 0, "csma_eca_warm": s.eca_warmup}.get(name, s.rule_warmup)
            rule = "csma_eca" if name.startswith("csma_eca") else name
            statistics = event_kernel.simulate(
                rule, config, busy_periods=s.rule_busy_periods, warmup=warmup, num_envs=_COPIES, seed=seed
            )
            found[name].append(metrics_of(statistics))
    return {"rules": found}
