"""The studies: which policies are compared, the cells that measure them, and their results as one table a study."""

import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from statistics import fmean

from rllib_wireless.papers.ctde_cql.learning import Arm, learn_offline, learn_online, measure_rules
from rllib_wireless.papers.ctde_cql.setup import LABELS, LEARNERS, ONLINE, RULES, Scale
from rllib_wireless.papers.experiment import Cell, Json
from rllib_wireless.papers.intervals import by_seed
from rllib_wireless.papers.studies import Row, seeds_done

PARADIGMS = ("centralized", "ctde", "independent")
HEADLINE = "headline"

_ALPHAS = (0.0, 1.0, 10.0)
_LAMBDAS = {0.5: "lambda_0.5", 0.7: "lambda_0.7", 0.8: "default", 0.9: "lambda_0.9"}
_DATA = ("sac", "dqn", "random", "itlinq")


def studies(s: Scale) -> dict[str, list[Row[Arm]]]:
    """All studies by name; the headline has more training seeds than the others."""
    return {
        HEADLINE: [
            *(Row({"policy": LABELS[name]}, f"{name}-default") for name in (*RULES, *ONLINE)),
            *(Row({"policy": LABELS[name]}, Arm(name, "sac", s.rows)) for name in LEARNERS),
        ],
        "data": [
            Row({"data of": LABELS[data], "policy": LABELS[name]}, Arm(name, data, s.rows))
            for name in ("ctde", "centralized")
            for data in _DATA
        ],
        "sizes": [
            Row({"joint rows": f"{rows:,}", "policy": LABELS["ctde"]}, Arm("ctde", "sac", rows)) for rows in s.sizes
        ],
        "lambda": [
            Row({"lambda": f"{lam:g}", "policy": LABELS["ctde"]}, Arm("ctde", "sac", s.rows, world))
            for lam, world in _LAMBDAS.items()
        ],
        "alpha": [
            Row({"alpha": f"{alpha:g}", "policy": LABELS[name]}, Arm(name, "sac", s.rows, alpha=alpha))
            for name in ("ctde", "centralized")
            for alpha in _ALPHAS
        ],
        "dense": [
            *(Row({"policy": LABELS[name]}, f"{name}-dense") for name in (*RULES, "sac")),
            *(Row({"policy": LABELS[name]}, Arm(name, "sac", s.rows, "dense")) for name in PARADIGMS),
        ],
        "told": [
            Row({"area": area, "policy": label}, Arm(name, "random", s.rows, world))
            for area, worlds in (("500 m", ("default", "told")), ("100 m", ("dense", "dense_told")))
            for name, label, world in (
                ("ctde", LABELS["ctde"], worlds[0]),
                ("ctde", f"{LABELS['ctde']}, told", worlds[1]),
                ("centralized", LABELS["centralized"], worlds[0]),
            )
        ],
        "wide": [
            Row({"hidden layers": f"2 x {width}", "policy": LABELS[name]}, Arm(name, "sac", s.rows, wide=wide))
            for wide, width in ((False, 64), (True, s.wide[0]))
            for name in PARADIGMS
        ],
    }


def all_cells(s: Scale) -> list[Cell]:
    """Training seed after training seed, so that a run cut short has everything with fewer seeds.

    Wide networks take longest and come last.
    """
    cells = [cell for seed in range(s.num_seeds) for cell in _cells_of_seed(s, seed)]
    return sorted(cells, key=lambda cell: cell.cost > 1.5)


def _cells_of_seed(s: Scale, seed: int) -> Iterator[Cell]:
    """What others need comes first; a policy that is in several studies is measured once."""
    wanted = [rows for name, rows in studies(s).items() if seed < s.study_seeds or name == HEADLINE]
    policies = list(dict.fromkeys(row.policy for rows in wanted for row in rows))
    named = [name for name in policies if isinstance(name, str)]
    for name in named:
        kind, world = name.split("-")
        if kind in ONLINE:
            yield Cell(f"{name}_{seed}", partial(learn_online, s, kind, world, seed), cost=1.5)
    for world in dict.fromkeys(name.split("-")[1] for name in named):
        yield Cell(f"rules-{world}_{seed}", partial(measure_rules, s, world, seed), cost=0.5)
    for arm in policies:
        if isinstance(arm, Arm):
            yield Cell(f"{arm.name}_{seed}", partial(learn_offline, s, arm, seed), cost=4.0 if arm.wide else 1.0)


def measured_policies(s: Scale, results: Mapping[str, Json]) -> Json:
    """Every policy's metrics by seed and the quantiles of its users' rates, as far as there are results."""
    found: Json = {}
    for row in itertools.chain.from_iterable(studies(s).values()):
        seeds = seeds_done(results, row.name, s.num_seeds, of_rule=row.name.split("-")[0] in RULES)
        if seeds and row.name not in found:
            metrics = {name: by_seed([seed["metrics"][name] for seed in seeds]) for name in seeds[0]["metrics"]}
            rates = [fmean(values) for values in zip(*(seed["rates"] for seed in seeds), strict=True)]
            found[row.name] = {"metrics": metrics, "rates": rates}
    return found
