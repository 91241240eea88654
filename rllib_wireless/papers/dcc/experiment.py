"""All cells of the experiment, and the tables that their results give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from rllib_wireless.papers.dcc import figures
from rllib_wireless.papers.dcc.claims import all_claims
from rllib_wireless.papers.dcc.learning import (
    compare,
    learn_ppo,
    many_devices,
    start_informed,
    vary_exponent,
    vary_start,
)
from rllib_wireless.papers.dcc.setup import LABELS, Scale
from rllib_wireless.papers.dcc.theory import LAWS, approximation, beside_the_best, gradients
from rllib_wireless.papers.experiment import Cell, Claim, Json
from rllib_wireless.papers.intervals import by_seed, estimate
from rllib_wireless.papers.resumable import Experiment

Results = Mapping[str, Json]

_FEW = 3
"""Environments of the first round."""

_MANY = 100
"""Devices that are many."""

BUDGETS = (100_000, 200_000, 400_000, 800_000, 1_600_000)
"""Slots in which each device has learned, at which policies are compared."""


def experiment(s: Scale) -> Experiment:
    """The experiment at some scale."""
    return Experiment("dcc", s.name, s.describe(), all_cells(s), partial(_summarise, s), figures.draw)


def all_cells(s: Scale) -> list[Cell]:
    """A first round of all studies in a few environments, then their others, so that a run cut short has a bit of all.

    In a round, what takes longest, many devices and networks, comes last.
    """
    most = max(s.theory_seeds, *(max(sizes.values(), default=0) for sizes in (s.sizes, s.initial, s.small)))
    large = [Cell(f"large_{n}", partial(many_devices, s, n), cost=n / 10) for n in s.large]
    return [*_round(s, range(_FEW)), *large, *_networks(s), *_round(s, range(_FEW, most))]


def _round(s: Scale, seeds: Sequence[int]) -> Iterator[Cell]:
    """The cells of some environments, study after study."""

    def each(
        name: str, sizes: Mapping[int, int], run: Callable[..., Json], share: float, *given: Any
    ) -> Iterator[Cell]:
        for seed in seeds:
            for n, count in sizes.items():
                if seed < count:
                    yield Cell(f"{name}_{n}_{seed}", partial(run, s, *given, n, seed), cost=share * n)

    few, many = ({n: count for n, count in s.sizes.items() if (n >= _MANY) is many} for many in (False, True))
    yield from each("scale", few, compare, 1.0)
    for seed in seeds:
        if seed < s.theory_seeds:
            for alpha in s.exponents:
                yield Cell(f"gradients_{alpha:g}_{seed}", partial(gradients, s, alpha, seed), cost=1.0)
                yield Cell(f"approximation_{alpha:g}_{seed}", partial(approximation, s, alpha, seed), cost=1.0)
    yield from each("initial", s.initial, start_informed, 0.3)
    for start in s.starts:
        yield from each(f"start_{start}", s.start_sizes, vary_start, 0.3, start)
    yield from each("small", s.small, beside_the_best, 4.0)
    for alpha in s.exponents:
        yield from each(f"exponent_{alpha:g}", s.exponent_sizes, vary_exponent, 0.3, alpha)
    yield from each("scale", many, compare, 1.0)


def _networks(s: Scale) -> list[Cell]:
    """PPO's cells, environment after environment."""
    found = [
        (seed, variant, n) for variant, sizes in s.ppo.items() for n, count in sizes.items() for seed in range(count)
    ]
    return [
        Cell(f"{variant}_{n}_{seed}", partial(learn_ppo, s, variant, n, seed), cost=n * 10)
        for seed, variant, n in sorted(found)
    ]


def _summarise(s: Scale, results: Results) -> tuple[list[Claim], Json]:
    studies = {
        "scalability": list(_scalability(s, results)),
        "budget": list(_budget(s, results)),
        "initial": list(_initial(s, results)),
        "exponents": list(_two_ways(results, "exponent", "alpha", [f"{a:g}" for a in s.exponents], s.exponent_sizes)),
        "starts": list(_two_ways(results, "start", "start law", s.starts, s.start_sizes)),
        "gradients": list(_gradients(s, results)),
        "approximation": list(_approximation(s, results)),
        "best": list(_best(s, results)),
        "large": [
            {"arm": {"devices": n}, "metrics": {k: by_seed([v]) for k, v in found.items() if k != "seconds"}}
            for n in s.large
            if (found := results.get(f"large_{n}"))
        ],
    }
    return all_claims(studies), {"studies": studies}


def _row(arm: Json, cells: Sequence[Mapping[str, float | None]]) -> Json:
    """A row of a study: what it is of, and each metric's values, mean and interval over environments."""
    return {"arm": arm, "metrics": {name: by_seed([cell[name] for cell in cells]) for name in cells[0]}}


def _found(results: Results, name: str, count: int) -> list[Json]:
    """The results of environments 0, 1, ..., up to the first that is not done, so that values of equal places are pairs."""
    cells: list[Json] = []
    for seed in range(count):
        if f"{name}_{seed}" not in results:
            break
        cells.append(results[f"{name}_{seed}"])
    return cells


def _costs(found: Json, never: float) -> dict[str, float]:
    return {"cost": found["cost"] / never, "offload_frequency": found["frequency"]}


def _scalability(s: Scale, results: Results) -> Iterator[Json]:
    for n, count in s.sizes.items():
        cells = _found(results, f"scale_{n}", count)
        names = [name for name in LABELS if cells and name in cells[0]["arms"]]
        for name in names:
            found = [(cell["arms"][name], cell["arms"]["never"]["cost"]) for cell in cells]
            rows = [
                _costs(arm, never) | {"cpu_s": arm["cpu"]} if "cpu" in arm else _costs(arm, never)
                for arm, never in found
            ]
            yield _row({"devices": n, "policy": LABELS[name]}, rows)
        for variant, sizes in s.ppo.items():
            measured = _found(results, f"{variant}_{n}", min(sizes.get(n, 0), len(cells)))
            arms = [
                (found["arms"][variant], cell["arms"]["never"]["cost"])
                for found, cell in zip(measured, cells, strict=False)
            ]
            if arms:
                rows = [_costs(arm, never) | {"cpu_s": arm["cpu"]} for arm, never in arms]
                yield _row({"devices": n, "policy": LABELS[variant]}, rows)


def _budget(s: Scale, results: Results) -> Iterator[Json]:
    """What the newest policy costs after as many slots."""
    for n, count in s.sizes.items():
        cells = _found(results, f"scale_{n}", count)
        for name in ("dcc", "dcc_overlap", "iql", "iql_common"):
            for slots in BUDGETS:
                rows = [
                    _costs(newest, cell["arms"]["never"]["cost"])
                    for cell in cells
                    if (newest := _newest(cell["arms"][name]["trace"], slots))
                ]
                if rows:
                    yield _row({"devices": n, "policy": LABELS[name], "slots": slots}, rows)


def _newest(trace: Sequence[Json], slots: int) -> Json | None:
    past = [row for row in trace if row["slots"] <= slots]
    return past[-1] if past else None


def _initial(s: Scale, results: Results) -> Iterator[Json]:
    for n, count in s.initial.items():
        cells = _found(results, f"initial_{n}", count)
        for name, label in (("naive", "K = 0"), ("informed", "K of another environment")):
            for update in range(6):
                rows = [
                    _costs(cell["arms"][name]["trace"][update], cell["arms"]["naive"]["trace"][0]["cost"])
                    for cell in cells
                    if update < len(cell["arms"][name]["trace"])
                ]
                if rows:
                    yield _row({"devices": n, "first constraint": label, "updates": update}, rows)


def _two_ways(
    results: Results, study: str, what: str, values: Sequence[str], sizes: Mapping[int, int]
) -> Iterator[Json]:
    for n, count in sizes.items():
        for value in values:
            cells = _found(results, f"{study}_{value}_{n}", count)
            for name in ("dcc", "dcc_overlap", "iql") if cells else ():
                rows = [_costs(cell["arms"][name], cell["arms"]["never"]["cost"]) for cell in cells]
                yield _row({"devices": n, what: value, "policy": LABELS[name]}, rows)


def _gradients(s: Scale, results: Results) -> Iterator[Json]:
    """Derivatives over all devices of an environment: the largest where it should be negative, the smallest where positive."""
    for alpha in s.exponents:
        cells = _found(results, f"gradients_{alpha:g}", s.theory_seeds)
        if cells:
            yield _row({"alpha": f"{alpha:g}"}, [_of_devices(cell["devices"]) for cell in cells])


def _of_devices(devices: Sequence[Json]) -> dict[str, float]:
    def apart(a: str, b: str) -> float:
        return float(max(abs(d[a] - d[b]) / max(abs(d[b]), 1e-3) for d in devices))

    return {
        "largest_local": max(d["local_finite"] for d in devices),
        "smallest_coupling": min(d["coupling_finite"] for d in devices),
        "lambda_error": apart("local_right", "minus_lambda"),
        "coupling_error": max(apart("coupling_right", "slope_usage"), apart("coupling_left", "slope_usage")),
        "left_right_local": apart("local_left", "local_right"),
        "left_right_coupling": apart("coupling_left", "coupling_right"),
    }


def _approximation(s: Scale, results: Results) -> Iterator[Json]:
    for alpha in s.exponents:
        cells = _found(results, f"approximation_{alpha:g}", s.theory_seeds)
        for law in LAWS if cells else ():
            found = [cell["laws"][law] for cell in cells]
            rows = [
                {
                    "error": abs(f["true"] - f["approximate"]) / f["true"],
                    "bound": f["bound"] / f["true"],
                    "within_bound": float(abs(f["true"] - f["approximate"]) <= f["bound"] + 1e-9),
                }
                for f in found
            ]
            yield _row({"alpha": f"{alpha:g}", "start law": law}, rows)


def _best(s: Scale, results: Results) -> Iterator[Json]:
    """Ratios to the best constraints, less 1: F(K), and true costs."""
    for n, count in s.small.items():
        cells = _found(results, f"small_{n}", count)
        for name in ("dcc", "dcc_lambda", "dcc_overlap", "iql") if cells else ():
            rows: list[dict[str, float | None]] = []
            for cell in cells:
                arm, best, optimum = cell["arms"][name], cell["best"], cell["joint_optimum"]
                rows.append(
                    {
                        "above_best_F": arm["value"] / best["value"] - 1.0 if "value" in arm else None,
                        "above_best_cost": arm["cost"] / best["cost"] - 1.0,
                        "above_joint_optimum": arm["cost"] / optimum - 1.0 if optimum else None,
                    }
                )
            yield _row({"devices": n, "policy": LABELS[name]}, rows)


def table(content: Json) -> list[dict[str, Any]]:
    """The scalability study, a row a policy and number of devices."""
    return [
        {"policy": f"N = {row['arm']['devices']}: {row['arm']['policy']}"}
        | {name: row["metrics"].get(name, estimate([])) for name in ("cost", "offload_frequency", "cpu_s")}
        for row in content["studies"]["scalability"]
    ]
