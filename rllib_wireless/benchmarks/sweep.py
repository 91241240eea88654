"""How much of a sweep's time is training."""

import os
import tempfile
from pathlib import Path
from typing import Any

from rllib_wireless.benchmarks import row
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.tuning.sweep import tune

_TRIALS = 20
_SIDE_BY_SIDE = 2


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Measure a sweep of 20 short trials of CTDE-CQL, two side by side.

    The ratio is that of the seconds that trials spent in what learns to those there were: the wall clock from the beginning of
    `tune` to its figures, times two. Ray's start, imports, data, evaluations, checkpoints and Optuna are what is lost; a machine that
    is busy with other things makes them longer. A trial is 4 iterations of 1,000 gradient steps, half a minute on one core, and an
    evaluation on 100 validation drops at its end.

    Args:
        quick: Four trials of a quarter of the steps.

    Returns:
        `name`, `value`, `unit`, and for ratios `target` and `peer`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        behaviours = [Behaviour("tdm"), Behaviour("random")]
        collect("radio_resource", {}, behaviours, 20_000, folder / "data", rows="all", num_envs=8)
        content = tune(
            "ctde_cql",
            "radio_resource",
            out=folder / "sweep",
            trials=4 if quick else _TRIALS,
            data=folder / "data",
            settings={"dataset_num_iters_per_learner": 250 if quick else 1000, "fcnet_hiddens": [64, 64]},
            iterations=4,
            every=4,
            scheduler="none",
            concurrent=_SIDE_BY_SIDE,
        )
    seconds = content["seconds"]
    peer = f"wall clock times {seconds['slots']} trials side by side, on {os.cpu_count()} cores"
    trials = len(content["trials"])
    return [
        row(f"training, of a sweep of {trials} trials", seconds["train_share"], "ratio", 0.85, peer),
        row("training and evaluation", seconds["train_and_evaluate_share"], "ratio", None, peer),
        row("training of a trial", seconds["train"] / trials, "s"),
        row("evaluations of a trial", seconds["evaluate"] / trials, "s"),
        row("the sweep", seconds["wall"], "s"),
    ]
