"""The studies: which policies are compared, the cells that measure them, and their results as one table a study."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from rllib_wireless.papers.experiment import Cell, Json
from rllib_wireless.papers.intervals import by_seed
from rllib_wireless.papers.scam_fqi.learning import Arm, learn, measure_rules
from rllib_wireless.papers.scam_fqi.setup import FIGURE_1, SHARING, WORLDS, Scale
from rllib_wireless.papers.studies import Row, seeds_done

REFERENCE = "1c"
"""What is shared in the studies of something else."""

_STARTS = ("zero", "monte_carlo")


def arm(s: Scale, world: str, sharing: str = REFERENCE, leaf: int | None = None, start: str | None = None) -> Arm:
    """An arm, with the scale's settings where none are given."""
    return Arm(world, sharing, leaf or s.leaf, start or s.start)


def studies(s: Scale) -> dict[str, list[Row[Arm]]]:
    """All studies by name; the two parts of figure 1 have more training seeds than the others."""
    found = {
        world: [
            *(Row({"policy": label}, f"{rule}-{world}") for rule, label in WORLDS[world].rules.items()),
            *(Row({"policy": SHARING[name].label}, arm(s, world, name)) for name in s.sharing),
        ]
        for world in FIGURE_1
    }
    found["leaf"] = [
        Row({"policy": SHARING[name].label, "fewest rows of a leaf": str(leaf)}, arm(s, "same", name, leaf))
        for name in s.leaf_sharing
        for leaf in s.leaves
    ]
    if s.studies:
        found |= {
            "start": [
                Row({"products": world, "first iteration": start}, arm(s, world, start=start))
                for world in FIGURE_1
                for start in _STARTS
            ],
            "defer": [
                Row({"products": world, "defer": WORLDS[of].fields.get("defer", "always"), "policy": label}, policy)
                for world in FIGURE_1
                for of in (world, f"{world}_always")
                for label, policy in (
                    ("uniform", f"uniform-{of}"),
                    (f"SCAM-FQI, {SHARING[REFERENCE].label}", arm(s, of)),
                )
            ],
            "clock": list(_clock(s)),
            "wireless": list(_wireless(s)),
        }
    return found


def _clock(s: Scale) -> Iterator[Row[Arm]]:
    """Rules and one arm on the published tick scale; without defers where there is a choice is what forced ones are."""
    for world in FIGURE_1:
        for rule, label in WORLDS[world].rules.items():
            yield Row({"products": world, "policy": label}, f"{rule}-{world}_serial_always")
        label = f"SCAM-FQI, {SHARING[REFERENCE].label}"
        yield Row({"products": world, "policy": label}, arm(s, f"{world}_serial"))


def _wireless(s: Scale) -> Iterator[Row[Arm]]:
    """Access points and stations, whose neighbours are all others."""
    for world in ("access_points", "stations"):
        for rule, label in WORLDS[world].rules.items():
            yield Row({"agents": world.replace("_", " "), "policy": label}, f"{rule}-{world}")
        for sharing in ("own", "all_c", "all_f"):
            yield Row({"agents": world.replace("_", " "), "policy": SHARING[sharing].label}, arm(s, world, sharing))


def all_cells(s: Scale) -> list[Cell]:
    """Figure 1 and then the studies, seed after seed, so that a run cut short has most arms with fewer seeds.

    The seeds that the studies have, too, come before the others, and what takes long last among them. A policy that is in
    several studies is measured once.
    """
    found: dict[str, tuple[int, Cell]] = {}
    for in_figure, count in ((True, s.num_seeds), (False, s.study_seeds)):
        rows = [row for name, rows in studies(s).items() if (name in FIGURE_1) is in_figure for row in rows]
        for seed in range(count):
            for row in rows:
                cell = _cell(s, row.policy, seed)
                found.setdefault(cell.name, (seed, cell))
    ordered = sorted(found.values(), key=lambda one: (one[0] >= s.study_seeds, one[1].cost > 1.0))
    return [cell for _, cell in ordered]


def _cell(s: Scale, policy: Arm | str, seed: int) -> Cell:
    """What measures a policy: all rules of a world are in one cell."""
    if isinstance(policy, Arm):
        return Cell(f"{policy.name}_{seed}", partial(learn, s, policy, seed), cost=SHARING[policy.sharing].cost)
    world = policy.split("-")[1]
    return Cell(f"rules-{world}_{seed}", partial(measure_rules, s, world, seed), cost=0.5)


def measured_policies(s: Scale, results: Mapping[str, Json]) -> Json:
    """Every policy's metrics by seed, and by iteration, as far as there are results."""
    found: Json = {}
    count = max(s.num_seeds, s.study_seeds)
    for row in itertools.chain.from_iterable(studies(s).values()):
        seeds = seeds_done(results, row.name, count, of_rule=row.name.split("-")[1] in WORLDS)
        if seeds and row.name not in found:
            found[row.name] = {
                "metrics": _estimates([seed["metrics"] for seed in seeds]),
                "curve": {k: _estimates([seed["curve"][k] for seed in seeds]) for k in seeds[0].get("curve", {})},
            }
    return found


def _estimates(seeds: Sequence[Mapping[str, float]]) -> Json:
    return {name: by_seed([seed[name] for seed in seeds]) for name in seeds[0]}
