"""Studies beside figure 1: what the paper announces and does not show, and what this project adds.

A study is a list of arms; an arm is a way to learn, run with a few training seeds. Their results become one table a study.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rllib_wireless.data import Behaviour
from rllib_wireless.papers.experiment import Cell, Json, Progress
from rllib_wireless.papers.fedmorl.attack import learn_under_attack
from rllib_wireless.papers.fedmorl.learning import Run, learn
from rllib_wireless.papers.fedmorl.setup import VARIANTS, Scale, Variant
from rllib_wireless.papers.intervals import by_seed

_JUDGED = partial(learn, judge=True)
_ATTACKS = (("honest", _JUDGED, "none"), ("poisoned", learn_under_attack, "one client"))
_SHARED = {"nothing": "nothing", "models": "models (FedMORL)", "data": "rows (pooled)", "policies": "policies"}
_MORE_ROUNDS = {"policy_iterations": 6, "policy_steps": 135}  # as many steps as the default has in fewer iterations
_SHORT_PLAY = {"self_play_updates": 60}  # clients with models of their own play each for itself
_CLONING = Variant("behaviour cloning", {"policy_learning": "clone", "rounds": 1})
_SHOWN = ("throughput_ratio", "short_term_fairness", "collision_rate", "mean_delay_ms", "outcome_loss", "model_loss")


@dataclass(frozen=True)
class Arm:
    """One row of a study's table.

    Args:
        study: The study's name.
        name: Unique within it.
        shown: What the table says of it, by column.
        stations: Number of stations.
        variant: Settings and environment.
        changes: Fields of `Run` that differ from the headline's.
        task: What a cell does.
        headline: Whether the headline's cells are the same runs; then there are none of its own.
    """

    study: str
    name: str
    shown: Mapping[str, str]
    stations: int
    variant: Variant
    changes: Mapping[str, Any] = field(default_factory=dict)
    task: Callable[[Run, Path, Progress], Json] = learn
    headline: str | None = None

    def cell(self, s: Scale, seed: int) -> Cell:
        """The cell of one training seed."""
        name = self.cell_name(seed)
        run = s.run(name, self.variant, self.stations, seed, **self.changes)
        return Cell(name, partial(self.task, run), cost=4 + self.stations)

    def cell_name(self, seed: int) -> str:
        return f"{self.headline}_{seed}" if self.headline else f"study_{self.study}_{self.name}_{seed}"


def study_cells(s: Scale) -> list[Cell]:
    """Training seed after training seed, so that a run cut short has all arms with fewer seeds."""
    return [arm.cell(s, seed) for seed in range(s.study_seeds) for arm in arms(s) if arm.headline is None]


def study_tables(s: Scale, results: Mapping[str, Json]) -> Json:
    """For each study a row an arm, as far as there are results."""
    tables: Json = {}
    for arm in arms(s):
        cells = (results.get(arm.cell_name(seed)) for seed in range(s.study_seeds))
        values = [cell["metrics"] for cell in itertools.takewhile(bool, cells) if cell]
        if values:
            measured = {m: by_seed([v[m] for v in values]) for m in _SHOWN if m in values[0]}
            tables.setdefault(arm.study, []).append({"name": arm.name, "arm": dict(arm.shown), "metrics": measured})
    return tables


def arms(s: Scale) -> list[Arm]:
    """All arms of all studies."""
    return [*_observations(s), *_mixtures(s), *_federation(s), *_attacks(s), *_heterogeneous(s)]


def _observations(s: Scale) -> Iterator[Arm]:
    """What more, or less, a station observes."""
    extensions: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
        "paper": ({}, ("plan", "play")),
        "rank": ({"rank": True}, ("plan", "play")),
        "local": ({"d2lt": "local"}, ("plan",)),
        "slot": ({"channel_state": "slot"}, ("plan",)),
    }
    for stations in sorted({s.study_stations, s.num_stations[-1]}):
        for name, (fields, keys) in extensions.items():
            for key in keys:
                variant = VARIANTS[key]
                shown = {"N": str(stations), "observation": _words(fields) or "the paper's", "policy": variant.label}
                own = Variant(variant.label, variant.settings, {**variant.env_config, **fields})
                same = f"{key}_{stations}" if not fields else None
                yield Arm("observations", f"{name}_{key}_{stations}", shown, stations, own, headline=same)


def _mixtures(s: Scale) -> Iterator[Arm]:
    """Logs in which CSMA/ECA made a share of the decisions (section 5.2, `Data Composition Analysis`)."""
    for percent in (0, 25, 50, 75, 100):
        shares = {"csma_ca": 1 - percent / 100, "csma_eca": percent / 100}
        changes = {"behaviours": tuple(Behaviour(rule, share) for rule, share in shares.items() if share > 0)}
        for key, variant in (("plan", VARIANTS["plan"]), ("clone", _CLONING)):
            same = f"{key}_{s.study_stations}" if key in VARIANTS and not percent else None
            shown = {"ECA share": f"{percent} %", "policy": variant.label}
            yield Arm("mixture", f"{percent}_{key}", shown, s.study_stations, variant, changes, headline=same)


def _federation(s: Scale) -> Iterator[Arm]:
    """What clients with few rows gain from sharing models, and what else they could share."""
    for rows in s.shards:
        for share, words in _SHARED.items():
            settings = {**VARIANTS["plan"].settings, "federate": share, "client_rows": rows}
            if share == "policies":
                settings |= _MORE_ROUNDS  # averaging is what they learn from each other by
            shown = {"rows a client": f"{rows:,}", "shared": words, "policy": VARIANTS["plan"].label}
            yield Arm("federation", f"{share}_{rows}", shown, s.study_stations, Variant(words, settings), task=_JUDGED)
        for share, words in (("nothing", "nothing"), ("policies", "policies")):
            cloning = Variant("", {**_CLONING.settings, "federate": share, "client_rows": rows, **_MORE_ROUNDS})
            shown = {"rows a client": f"{rows:,}", "shared": words, "policy": _CLONING.label}
            yield Arm("federation", f"clone_{share}_{rows}", shown, s.study_stations, cloning)
        for share in ("nothing", "models"):
            playing = {**VARIANTS["play"].settings, "federate": share, "client_rows": rows, **_SHORT_PLAY}
            shown = {"rows a client": f"{rows:,}", "shared": _SHARED[share], "policy": VARIANTS["play"].label}
            yield Arm("federation", f"play_{share}_{rows}", shown, s.study_stations, Variant("", playing), task=_JUDGED)


def _heterogeneous(s: Scale) -> Iterator[Arm]:
    """Clients that differ in the size of their network, their traffic, their backoff or their number of rows."""
    n = s.study_stations
    few = s.shards[1]
    windows = [(3, 7, 15, 31)[k % 4] for k in range(n)]
    rates = [(0.0003, 0.018)[k % 2] for k in range(n)]
    rows = {f"station_{k}": (s.shards[0], s.shards[-1])[k % 2] for k in range(n)}
    kinds: dict[str, tuple[str, dict[str, Any], dict[str, Any], int | dict[str, int]]] = {
        "contention": ("cells of 4, 8 and 14 stations", {"alpha": 0.01}, {"other_cells": (4, 14)}, few),
        "traffic": ("every other station light", {"saturated": False, "arrival_rate": rates}, {}, few),
        "backoff": ("CWmin 3, 7, 15, 31", {}, {"behaviours": (Behaviour("csma_ca", 1.0, {"cw_min": windows}),)}, few),
        "size": (f"{s.shards[0]:,} or {s.shards[-1]:,} rows", {}, {}, rows),
    }
    for kind, (words, env_config, changes, client_rows) in kinds.items():
        for share in ("nothing", "models", "data"):
            settings = {**VARIANTS["plan"].settings, "federate": share, "client_rows": client_rows}
            variant = Variant("", settings, env_config)
            shown = {"clients differ in": f"{kind}: {words}", "shared": _SHARED[share]}
            yield Arm("heterogeneous", f"{kind}_{share}", shown, n, variant, changes, task=_JUDGED)


def _attacks(s: Scale) -> Iterator[Arm]:
    """One client of eight sends updates that point the other way."""
    for aggregation in ("fedavg", "median", "trimmed_mean", "krum"):
        for name, task, words in _ATTACKS:
            variant = Variant("", {**VARIANTS["plan"].settings, "aggregation": aggregation, "num_byzantine": 1})
            yield Arm(
                "attack",
                f"{aggregation}_{name}",
                {"aggregation": aggregation, "poisoned": words},
                s.study_stations,
                variant,
                task=task,
            )


def _words(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={str(value).lower()}" for name, value in fields.items())
