"""FedMORL's runs: clients of other networks, and world models that are judged on fresh rows."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rllib_wireless.algorithms.fedmorl.fedmorl import FedMORL
from rllib_wireless.algorithms.fedmorl.likelihood import held_out_loss
from rllib_wireless.data import Behaviour
from rllib_wireless.data.store import client_folders
from rllib_wireless.envs.base import Statistics
from rllib_wireless.papers import learning
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.papers.learning import collect_log, measure_policy, trained, work_folder

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm

ENV = "channel_access"
METRICS = ("throughput_ratio", "collision_rate", "mean_delay_ms", "short_term_fairness", "jain_fairness")

FRESH_SEED, FRESH_STEPS = 900, 4_000
"""The log on which world models are judged; no learner's."""


@dataclass(frozen=True, kw_only=True)
class Run(learning.Run):
    """A run of FedMORL, or of another algorithm on its logs.

    Args:
        other_cells: Sizes of further networks whose stations are clients, too, with logs as long.
    """

    env: str = ENV
    behaviours: tuple[Behaviour, ...] = (Behaviour("csma_ca"),)
    algorithm: str = "fedmorl"
    other_cells: tuple[int, ...] = ()


def learn(
    run: Run,
    out: Path,
    progress: Progress,
    *,
    judge: bool = False,
    algo_class: "type[OfflineMultiAgentAlgorithm] | None" = None,
) -> Json:
    """Collect the log, train and measure.

    Args:
        run: What to do.
        out: Output folder; what is needed on the way lies in `work/` below it.
        progress: Not told anything.
        judge: Whether to measure the world model on fresh rows, too.
        algo_class: In place of the algorithm's own class.

    Returns:
        `metrics` by name, with `model_loss` and `outcome_loss` where the model was judged.
    """
    with work_folder(out, run.name) as folder:
        _collect_cells(run, folder / "data")
        with trained(run, folder, algo_class) as algorithm:
            algorithm.export_policy(folder / "policy")
            metrics = metrics_of(measure_policy(run, folder / "policy").statistics)
            if judge:
                metrics |= model_losses(algorithm, run, folder)
    return {"metrics": metrics}


def _collect_cells(run: Run, folder: Path) -> None:
    """The run's log, or in folders side by side that of each cell."""
    if not run.other_cells:
        collect_log(run, folder, seed=run.data_seed)
        return
    for stations in (run.env_config["num_stations"], *run.other_cells):
        cell = dataclasses.replace(run, env_config={**run.env_config, "num_stations": stations})
        collect_log(cell, folder / f"cell_{stations}", seed=run.data_seed)


def metrics_of(statistics: Statistics) -> dict[str, float]:
    """The metrics of pooled statistics."""
    return {name: value for name, value in learning.metrics_of(ENV, statistics).items() if name in METRICS}


def model_losses(algorithm: "OfflineMultiAgentAlgorithm", run: Run, folder: Path) -> dict[str, float]:
    """Negative log-likelihood of the clients' world models on rows that nobody trained on, in nats a row.

    Each of the run's own stations' models is judged on the same rows, those of all stations; the mean over stations.
    """
    assert isinstance(algorithm, FedMORL)
    collect_log(run, folder / "fresh", seed=FRESH_SEED, steps=FRESH_STEPS)
    own = f"cell_{run.env_config['num_stations']}/" if run.other_cells else ""
    losses = held_out_loss(algorithm, client_folders(folder / "fresh"))
    of_own = [loss for client, loss in losses.items() if client.startswith(own)]
    return {"model_loss": fmean(v.model for v in of_own), "outcome_loss": fmean(v.outcome for v in of_own)}
