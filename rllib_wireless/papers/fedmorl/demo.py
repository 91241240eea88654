"""The demo: one network size through the whole chain, logs, federated world model, two policies, comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rllib_wireless.algorithms.training import train
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.errors import UserError
from rllib_wireless.papers import figures
from rllib_wireless.papers.experiment import Cell, Claim, Json, Progress, read_json, record, run_cells, write_results
from rllib_wireless.papers.fedmorl.setup import MARGINS, REFERENCE, SOURCE
from rllib_wireless.policies.evaluation import Evaluation, evaluate, paired_difference

ENV = "channel_access"

LABELS = {
    "fedmorl_plan": "FedMORL (plan)",
    "fedmorl_roll": "FedMORL (roll)",
    "ac_vo": "AC_VO",
    "ac_vi": "AC_VI",
    "ac_be": "AC_BE",
    "csma_ca": "CSMA/CA (data source)",
    "csma_eca": "CSMA/ECA",
    "tdma": "TDMA (bound)",
}
RULES = ("ac_vo", "ac_vi", "ac_be", "csma_ca", "csma_eca", "tdma")


@dataclass(frozen=True)
class Scale:
    """How much is computed.

    Args:
        num_stations: Network size N.
        data_steps: Joint decisions in the logs.
        data_seed: Seed of the logs.
        train_seed: Seed of the learners.
        test_seed: Seed of the comparison; nothing was chosen on it.
        test_copies: Copies that are compared.
        test_steps: Decisions in each, after as many as `warmup_steps`.
    """

    num_stations: int
    data_steps: int
    data_seed: int
    train_seed: int
    test_seed: int
    test_copies: int
    test_steps: int
    warmup_steps: int

    @property
    def env_config(self) -> dict[str, Any]:
        return {"num_stations": self.num_stations}


DEMO = Scale(
    num_stations=8,
    data_steps=40_000,
    data_seed=50,
    train_seed=60,
    test_seed=0,
    test_copies=64,
    test_steps=10_000,
    warmup_steps=2_000,
)

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fedmorl_plan": ("fedmorl", {"policy_learning": "planner"}),
    "fedmorl_roll": ("fedmorl", {"policy_learning": "rollout"}),
}
"""Learned policies: algorithm and settings that differ from the defaults."""


def reproduce(out: Path, progress: Progress, *, only: str | None, plot_only: bool) -> Json:
    """See `rllib_wireless.papers.fedmorl.reproduce`."""
    if plot_only and not (out / "results.json").exists():
        raise UserError(f"{out} holds no results.json to draw from; run without --plot-only first")
    if not plot_only:
        cells = demo_cells(DEMO)
        results = run_cells(cells, out, progress, only)
        if len(results) < len(cells):
            return results
        _summarise(out, DEMO, results)
    content = read_json(out / "results.json")
    draw(content, out)
    return content


def draw(content: Json, out: Path) -> None:
    """The figure, from `results.json` alone."""
    figures.channel_access(content, LABELS, out / "figure.png")


def demo_cells(s: Scale) -> list[Cell]:
    """Logs, then the learned policies, then everyone's evaluation on common seeds."""
    learned = [Cell(name, partial(_train, s, name)) for name in VARIANTS]
    tests = [Cell(f"test_{name}", partial(_evaluate, s, name)) for name in (*VARIANTS, *RULES)]
    return [Cell("data", partial(_collect, s)), *learned, *tests]


def table(content: Json) -> list[dict[str, Any]]:
    """The comparison, a row a policy: its label, and each metric's mean and interval."""
    return [{"policy": LABELS[name], **metrics} for name, metrics in content["policies"].items()]


def _collect(s: Scale, out: Path, progress: Progress) -> Json:
    card = collect(
        ENV,
        s.env_config,
        [Behaviour(SOURCE)],
        s.data_steps,
        out / "data",
        seed=s.data_seed,
        split="agents",
        progress=lambda done, wanted: progress("data", done / wanted),
    )
    return {"steps": s.data_steps, "metrics": card.metrics}


def _train(s: Scale, name: str, out: Path, progress: Progress) -> Json:
    algorithm, settings = VARIANTS[name]
    result = train(
        algorithm,
        env=ENV,
        env_config=s.env_config,
        data=out / "data",
        out=out / name,
        settings=settings,
        seed=s.train_seed,
        resume=True,
        progress=lambda _, share: progress(name, share or 0.0),
    )
    return {"settings": settings, "result": result}


def _evaluate(s: Scale, name: str, out: Path, progress: Progress) -> Json:
    evaluation = evaluate(
        name if name in RULES else out / name,
        ENV,
        s.env_config,
        num_envs=s.test_copies,
        steps=s.test_steps,
        warmup_steps=s.warmup_steps,
        seed=s.test_seed,
        progress=partial(progress, f"test_{name}"),
    )
    return {"evaluation": record(evaluation), "metrics": evaluation.metrics()}


def _summarise(out: Path, s: Scale, results: Mapping[str, Json]) -> None:
    names = [*VARIANTS, *RULES]
    evaluations = {name: _restore(results[f"test_{name}"]["evaluation"]) for name in names}
    write_results(
        out,
        "fedmorl",
        "demo",
        _claims(evaluations),
        {**vars(s), "margins": MARGINS, "variants": VARIANTS},
        {
            "policies": {name: results[f"test_{name}"]["metrics"] for name in names},
            "seconds": {name: result["seconds"] for name, result in results.items()},
        },
    )


def _claims(evaluations: Mapping[str, Evaluation]) -> list[Claim]:
    claims = []
    for name in ("fedmorl_plan", "fedmorl_roll"):
        for other, margins in ((REFERENCE, MARGINS), (SOURCE, dict.fromkeys(MARGINS, 0.0))):
            for metric, margin in margins.items():
                mean, lower, upper = paired_difference(evaluations[name], evaluations[other], metric)
                relation = "not below" if margin else "above"
                claims.append(
                    Claim(
                        id=f"{name}-{other}-{metric}",
                        claim=f"{LABELS[name]} is {relation} {LABELS[other]} in {metric} (margin {margin})",
                        paper="section 5.2, figure 1; fairness is not reported there",
                        measured=mean,
                        interval=(lower, upper),
                        met=lower > -margin,
                    )
                )
    return claims


def _restore(recorded: Json) -> Evaluation:
    statistics = {name: np.array(rows) for name, rows in recorded["statistics"].items()}
    return Evaluation(**{**recorded, "statistics": statistics})
