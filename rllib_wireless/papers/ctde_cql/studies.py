"""The studies: which policies are compared, the cells that measure them, and their results as one table a study."""

import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from statistics import fmean

from rllib_wireless.papers.ctde_cql.learning import Arm, informed, learn_offline, learn_online, measure_rules
from rllib_wireless.papers.ctde_cql.setup import EQUAL, EXPLORED, LABELS, LEARNERS, ONLINE, RULES, Scale
from rllib_wireless.papers.experiment import Cell, Json
from rllib_wireless.papers.intervals import by_seed
from rllib_wireless.papers.studies import Row, seeds_done

PARADIGMS = ("centralized", "ctde", "independent")
HEADLINE = "headline"

_ALPHAS = (0.0, 1.0, 10.0)
_LAMBDAS = {0.5: "lambda_0.5", 0.7: "lambda_0.7", 0.8: "default", 0.9: "lambda_0.9"}
_DATA = ("sac", "dqn", "random", "itlinq")

_READ_POWERS = ("itlinq", "delayed_genie")


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
        "equal": _equal(s),
        "equal_dense": _equal_dense(s),
    }


def _equal(s: Scale) -> list[Row[Arm]]:
    """ITLinQ beside learners that see SINRs alone, what ITLinQ reads of their own users, or all of it."""
    return [
        *_readers("default"),
        _informed(s, "all SINRs", "centralized_dqn", "random", "default"),
        _informed(s, "all powers", "centralized_dqn", "random", "powers"),
        _informed(s, "all powers, told", "ctde_dqn", EXPLORED, "powers_told"),
        _informed(s, "its users' powers", "ctde_dqn", EXPLORED, "powers"),
    ]


def _equal_dense(s: Scale) -> list[Row[Arm]]:
    """The same where interference is strong."""
    return [
        *_readers("dense"),
        _informed(s, "all powers", "centralized_dqn", "random", "dense_powers"),
        _informed(s, "all powers, told", "ctde_dqn", EXPLORED, "dense_powers_told"),
    ]


def _readers(world: str) -> list[Row[Arm]]:
    """Rules that read the powers, which here is no privilege."""
    labels = {name: LABELS[name].removesuffix(" (privileged)") for name in _READ_POWERS}
    return [
        Row({"policy": label, "sees": "all powers", "data of": ""}, f"{name}-{world}") for name, label in labels.items()
    ]


def _informed(s: Scale, sees: str, learner: str, data: str, world: str) -> Row[Arm]:
    return Row({"policy": LABELS[learner], "sees": sees, "data of": LABELS[data]}, informed(s, learner, data, world))


def all_cells(s: Scale) -> list[Cell]:
    """Training seed after training seed, so that a run cut short has everything with fewer seeds.

    Wide networks and long training come last.
    """
    cells = [cell for seed in range(s.num_seeds) for cell in _cells_of_seed(s, seed)]
    return sorted(cells, key=lambda cell: cell.cost > 1.5)


def _cells_of_seed(s: Scale, seed: int) -> Iterator[Cell]:
    """What others need comes first; a policy that is in several studies is measured once."""
    wanted = [rows for name, rows in studies(s).items() if seed < _seeds(s, name)]
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
            cost = 8.0 if arm.long else 4.0 if arm.wide else 1.0
            yield Cell(f"{arm.name}_{seed}", partial(learn_offline, s, arm, seed), cost=cost)


def _seeds(s: Scale, study: str) -> int:
    """Training seeds of a study."""
    if study == HEADLINE:
        return s.num_seeds
    return s.long_seeds if study in EQUAL.values() else s.study_seeds


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
