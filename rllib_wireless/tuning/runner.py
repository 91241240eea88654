"""A sweep's trials on Ray Tune: what they need, what ends them early, and what is told while they run."""

import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from optuna.trial import TrialState
from ray.tune import (
    Callback,
    CheckpointConfig,
    FailureConfig,
    PlacementGroupFactory,
    RunConfig,
    TuneConfig,
    Tuner,
    with_parameters,
    with_resources,
)
from ray.tune.logger import JsonLoggerCallback
from ray.tune.logger.tensorboardx import TBXLoggerCallback
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from typing_extensions import override

from rllib_wireless.algorithms.actors import ray_with
from rllib_wireless.algorithms.run import read_lines
from rllib_wireless.tracking import WandbMode
from rllib_wireless.tuning.report import Seconds, table_row
from rllib_wireless.tuning.search import ENDED, TRIAL, StudySearch
from rllib_wireless.tuning.settings import Sweep
from rllib_wireless.tuning.trial import ERRORS, Task, Trial, trial_name

_REDUCTION = 3
"""Of ASHA: the best third goes on."""

_TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the old one can be silent
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed has no metric
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends a sweep as it ends everything else
}

_TUNE = "tune"
"""The folder that Ray Tune writes to."""


def run_trials(
    sweep: Sweep,
    out: Path,
    search: StudySearch,
    missing: int,
    concurrent: int | None = None,
    wandb: WandbMode = "off",
    progress: Callable[[float], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Seconds:
    """Run the trials that a sweep lacks.

    Args:
        sweep: The sweep.
        out: Its folder.
        search: What chooses, with the study.
        missing: How many trials are lacking; those that were interrupted among them.
        concurrent: How many run side by side at most; as many as there is room for if None.
        wandb: Whether Weights & Biases follows them.
        progress: Told the share that is done.
        note: Told a line for each trial that ends.

    Returns:
        What the time was spent on.
    """
    task = sweep.task(out)
    need = task.resources()
    with _ray_for(need, concurrent):
        slots = min(_slots(need), concurrent or math.inf, missing)
        watch = _Watch(sweep, search, out, missing, progress, note)
        callbacks: list[Callback] = [watch, JsonLoggerCallback(), TBXLoggerCallback()]
        if wandb != "off":
            from rllib_wireless.tuning.wandb_callback import SweepWandbCallback

            callbacks.append(SweepWandbCallback(sweep, task, out, wandb))
        tuner = Tuner(
            with_resources(with_parameters(Trial, task=task), need),
            tune_config=TuneConfig(
                search_alg=search,
                scheduler=_scheduler(sweep, task, out, search),
                num_samples=missing,
                max_concurrent_trials=concurrent,
                reuse_actors=True,
                trial_name_creator=_name_of,
                trial_dirname_creator=_name_of,
            ),
            run_config=RunConfig(
                name=_TUNE,
                storage_path=str(out),
                callbacks=callbacks,
                # Trials write their own, from which one whose process was lost goes on.
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                failure_config=FailureConfig(max_failures=1),
                verbose=0,
            ),
        )
        tuner.fit()
    watch.seconds.slots = int(slots)
    return watch.seconds


class _Watch(Callback):  # type: ignore[misc]
    """Tells what happens, adds up the time, and removes checkpoints that nobody needs any more."""

    def __init__(
        self,
        sweep: Sweep,
        search: StudySearch,
        out: Path,
        missing: int,
        progress: Callable[[float], None] | None,
        note: Callable[[str], None] | None,
    ) -> None:
        self.seconds = Seconds()
        self._sweep, self._search, self._out, self._missing = sweep, search, out, missing
        self._progress, self._note = progress, note
        self._ended = 0
        self._shares: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune keeps a copy of its callbacks; whom to tell, a terminal, is no part of it.
        return {**self.__dict__, "_progress": None, "_note": None}

    @override
    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        self.seconds.add(result.get("seconds", {}))
        end = self._sweep.task(self._out).end
        if end and "iteration" in result:
            self._shares[trial.trial_id] = min(result["iteration"] / end, 1.0)
        self._tell()

    @override
    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self._on_end(trial)

    @override
    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        # Its process is gone, and with it who could have written this.
        folder = self._out / "trials" / trial_name(trial.config[TRIAL])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ERRORS).write_text(f"{trial.get_error()}\n")
        self._on_end(trial)

    def _on_end(self, trial: Any) -> None:
        self._ended += 1
        self._shares.pop(trial.trial_id, None)
        number = trial.config[TRIAL]
        for checkpoint in (self._out / "trials" / trial_name(number)).glob("*/checkpoint"):
            shutil.rmtree(checkpoint, ignore_errors=True)
        if self._note is not None:
            ended = self._search.study.get_trials(states=ENDED, deepcopy=False)
            self._note(table_row(self._sweep, ended, number, self._ended, self._missing))
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress((self._ended + sum(self._shares.values())) / self._missing)


def _name_of(trial: Any) -> str:
    return trial_name(trial.config[TRIAL])


def _scheduler(sweep: Sweep, task: Task, out: Path, search: StudySearch) -> TrialScheduler:
    """What ends trials that do badly. It is told of the trials that ended before, as its memory ends with its process."""
    kind = sweep.scheduling()
    if kind == "none":
        return FIFOScheduler()
    metric = {"metric": search.metric, "mode": search.mode, "time_attr": "iteration"}
    scheduler: TrialScheduler
    if kind == "median":
        scheduler = MedianStoppingRule(**metric, grace_period=2 * (sweep.interval() or 1))
    else:
        grace = sweep.interval() or 1
        end = max(task.end or _HORIZON, grace)
        scheduler = ASHAScheduler(
            **metric, grace_period=grace, max_t=end, reduction_factor=_REDUCTION, stop_last_trials=False
        )
    for past in search.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED), deepcopy=False):
        _tell_of(scheduler, trial_name(past.number), out)
    return scheduler


_HORIZON = 1000
"""Iterations of an algorithm that knows its own end, as far as ASHA needs to know it: rungs beyond the end stay empty."""


class _Past:
    """A trial of an earlier process, as far as a scheduler looks at trials."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def _tell_of(scheduler: TrialScheduler, name: str, out: Path) -> None:
    rows = read_lines(out / "trials" / name)
    past = _Past(name)
    scheduler.on_trial_add(None, past)
    for row in rows:
        scheduler.on_trial_result(None, past, row)
    if rows:
        scheduler.on_trial_complete(None, past, rows[-1])


@contextmanager
def _ray_for(need: PlacementGroupFactory, concurrent: int | None) -> Iterator[None]:
    """Start Ray with room for the trials, unless it runs."""
    for name in ("ray.tune", "ray._common.deprecation", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with _environment(_TUNE_SETTINGS), ray_with(_cpus(need) * (concurrent or 1)):
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _cpus(need: PlacementGroupFactory) -> float:
    return float(sum(bundle.get("CPU", 0.0) for bundle in need.bundles))


def _slots(need: PlacementGroupFactory) -> float:
    """How many trials there is room for."""
    return float(max(ray.cluster_resources().get("CPU", 0.0) // max(_cpus(need), 1e-9), 1.0))
