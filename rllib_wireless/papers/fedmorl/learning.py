"""From logs to a measured policy: what every cell with a learned policy does."""

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from rllib_wireless.algorithms.fedmorl.fedmorl import FedMORL
from rllib_wireless.algorithms.fedmorl.likelihood import held_out_loss
from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.data.store import client_folders
from rllib_wireless.envs import env_spec
from rllib_wireless.envs.base import Statistics
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.policies.evaluation import evaluate

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm

ENV = "channel_access"
METRICS = ("throughput_ratio", "collision_rate", "mean_delay_ms", "short_term_fairness", "jain_fairness")

FRESH_SEED, FRESH_STEPS = 900, 4_000
"""The log on which world models are judged; no learner's."""


@dataclass(frozen=True)
class Test:
    """How a policy is measured.

    Args:
        copies: Copies of the environment.
        steps: Decisions in each.
        warmup_steps: Decisions before those.
    """

    copies: int
    steps: int
    warmup_steps: int


@dataclass(frozen=True)
class Run:
    """One log, one training and one test.

    Args:
        name: Name of its working folder.
        env_config: Configuration of the environment.
        steps: Joint decisions in the log.
        data_seed: Seed of the log.
        train_seed: Seed of the learner.
        test_seed: Seed of the test.
        test: How the policy is measured.
        behaviours: What acts in the log.
        other_cells: Sizes of further networks whose stations are clients, too, with logs as long.
        algorithm: The learner.
        settings: Its settings that differ from the defaults.
    """

    name: str
    env_config: Mapping[str, Any]
    steps: int
    data_seed: int
    train_seed: int
    test_seed: int
    test: Test
    behaviours: tuple[Behaviour, ...] = (Behaviour("csma_ca"),)
    other_cells: tuple[int, ...] = ()
    algorithm: str = "fedmorl"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> Literal["none", "agents"]:
        """How the algorithm wants its data."""
        return "agents" if algorithm_spec(self.algorithm).requirements.layout == "agents" else "none"


def learn(
    run: Run,
    out: Path,
    progress: Progress,
    *,
    judge: bool = False,
    algo_class: "type[OfflineMultiAgentAlgorithm] | None" = None,
) -> Json:
    """Collect the log, train and measure.

    Logs are collected for each run anew, which takes a tenth of the training, and removed: runs then need nothing of each
    other, and a whole experiment leaves no gigabytes behind. Equal seeds give equal logs.

    Args:
        run: What to do.
        out: Output folder; what is needed on the way lies in `work/` below it.
        progress: Not told anything.
        judge: Whether to measure the world model on fresh rows, too.
        algo_class: In place of the algorithm's own class.

    Returns:
        `metrics` by name, with `model_loss` and `outcome_loss` where the model was judged.
    """
    folder = out / "work" / run.name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _collect_cells(run, folder / "data")
        algorithm = train(run, folder, algo_class)
        try:
            algorithm.export_policy(folder / "policy")
            metrics = measure_policy(run, folder / "policy")
            if judge:
                metrics |= model_losses(algorithm, run, folder)
        finally:
            algorithm.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"metrics": metrics}


def collect_log(run: Run, folder: Path, *, seed: int, steps: int | None = None) -> None:
    """Write a log of the run's behaviours in its own network."""
    collect(ENV, run.env_config, run.behaviours, steps or run.steps, folder, seed=seed, split=run.layout)


def _collect_cells(run: Run, folder: Path) -> None:
    """The run's log, or in folders side by side that of each cell."""
    if not run.other_cells:
        collect_log(run, folder, seed=run.data_seed)
        return
    for stations in (run.env_config["num_stations"], *run.other_cells):
        cell = dataclasses.replace(run, env_config={**run.env_config, "num_stations": stations})
        collect_log(cell, folder / f"cell_{stations}", seed=run.data_seed)


def train(
    run: Run, folder: Path, algo_class: "type[OfflineMultiAgentAlgorithm] | None" = None
) -> "OfflineMultiAgentAlgorithm":
    """Train on the log in `folder / "data"` to the end."""
    spec = algorithm_spec(run.algorithm)
    config = spec.config().environment(ENV, env_config=dict(run.env_config)).debugging(seed=run.train_seed)
    config.offline_data(input_=str((folder / "data").absolute())).training(**run.settings)
    config.set_output(folder.absolute())
    if algo_class is not None:
        config.algo_class = algo_class
    algorithm: OfflineMultiAgentAlgorithm = config.build_algo()
    while not algorithm.finished and (spec.iterations is None or algorithm.iteration < spec.iterations):
        algorithm.train()
    return algorithm


def measure_policy(run: Run, policy: Path | str) -> dict[str, float]:
    """The metrics of a policy on the run's test seed."""
    measured = evaluate(
        policy,
        ENV,
        run.env_config,
        num_envs=run.test.copies,
        steps=run.test.steps,
        warmup_steps=run.test.warmup_steps,
        seed=run.test_seed,
    )
    return metrics_of(measured.statistics)


def metrics_of(statistics: Statistics) -> dict[str, float]:
    """The metrics of pooled statistics."""
    return {m.name: m.reduce(statistics) for m in env_spec(ENV).metrics if m.name in METRICS}


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
