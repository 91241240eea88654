"""Which configuration comes next: Ray Tune's OptunaSearch over a study that outlives the process.

The study is the one record of a sweep: a trial is written there before it begins and when it ends. Ray Tune's own snapshots, which
are seconds behind when a sweep is killed, are not needed to go on.
"""

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.optuna import OptunaSearch
from typing_extensions import override

from rllib_wireless.envs.registry import Metric
from rllib_wireless.errors import UserError
from rllib_wireless.tuning.spaces import Space

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
"""States of trials that are not tried again."""

TRIAL, SETTINGS = "trial", "settings"
"""Where a trial's configuration has its number in the study, and the settings that were chosen."""

_DIRECTIONS = {"higher": StudyDirection.MAXIMIZE, "lower": StudyDirection.MINIMIZE}

ERROR = "error"
"""Where a result, and the study, tell why a trial failed."""


def open_storage(url: str | None, out: Path) -> BaseStorage:
    """Where the study is kept.

    Args:
        url: Of a database, as SQLAlchemy names it; `study.journal` of the folder if None.
        out: The sweep's folder.

    Raises:
        UserError: Where the database cannot be opened.
    """
    if url is None:
        path = out / "study.journal"
        _drop_half_line(path)
        return JournalStorage(JournalFileBackend(str(path)))
    try:
        return RDBStorage(url)
    except Exception as error:  # whatever the driver of that database raises
        raise UserError(f"--storage {url}: {str(error).splitlines()[0]}") from None


def open_study(storage: BaseStorage, name: str, metrics: Sequence[Metric]) -> optuna.Study:
    """A sweep's study, begun where there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    directions = [_DIRECTIONS[metric.better] for metric in metrics]
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    study.set_metric_names([metric.name for metric in metrics])
    return study


def new_sampler(seed: int, known: int, trials: int, objectives: int) -> BaseSampler:
    """TPE, or NSGA-II for several objectives.

    Args:
        seed: The sweep's.
        known: Trials that the study has already: a sampler that goes on should not draw again what it drew at first.
        trials: Trials in total.
        objectives: How many objectives there are.
    """
    drawn = (seed * 1_000_003 + known) % 2**32
    if objectives > 1:
        # At least four generations.
        return NSGAIISampler(seed=drawn, population_size=min(50, max(4, trials // 4)))
    # `constant_liar`: trials that run are taken for bad ones, so that those side by side are not alike.
    return TPESampler(seed=drawn, multivariate=True, constant_liar=True, n_startup_trials=min(10, max(2, trials // 3)))


class StudySearch(OptunaSearch):  # type: ignore[misc]
    """OptunaSearch that goes on with trials which were running when a sweep was killed, and says why trials failed.

    A suggestion is `{TRIAL: number, SETTINGS: {name: value}}`.

    Args:
        study: The study.
        space: What is searched.
        metrics: The objectives, of which a result has a value each.
        sampler: What draws.
    """

    def __init__(self, study: optuna.Study, space: Space, metrics: Sequence[Metric], sampler: BaseSampler) -> None:
        modes = [{"higher": "max", "lower": "min"}[metric.better] for metric in metrics]
        names = [metric.name for metric in metrics]
        single = len(metrics) == 1
        super().__init__(
            space={name: domain.distribution() for name, domain in space.items()},
            metric=names[0] if single else names,
            mode=modes[0] if single else modes,
            sampler=sampler,
            storage=study._storage,
            study_name=study.study_name,
        )
        self._domains = space
        self._interrupted = [t for t in study.get_trials(states=(TrialState.RUNNING,)) if _is_whole(t, space)]
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            if not _is_whole(trial, space):  # killed while it was drawn
                study.tell(trial.number, state=TrialState.FAIL)

    @property
    def study(self) -> optuna.Study:
        """The study."""
        study: optuna.Study = self._ot_study
        return study

    def number_of(self, trial_id: str) -> int:
        """The number in the study of a trial of Ray Tune's."""
        return int(self._ot_trials[trial_id].number)

    @override
    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if trial_id not in self._ot_trials and self._interrupted:
            self._ot_trials[trial_id] = optuna.Trial(self.study, self._interrupted.pop(0)._trial_id)
        super().suggest(trial_id)
        trial = self._ot_trials[trial_id]
        return {TRIAL: trial.number, SETTINGS: decoded(trial.params, self._domains)}

    @override
    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if not isinstance(self.metric, list) and _is_number(result.get(self.metric)):
            self._ot_trials[trial_id].report(result[self.metric], result["iteration"])

    @override
    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self._ot_trials.pop(trial_id, None)
        if trial is None:
            return
        names = self.metric if isinstance(self.metric, list) else [self.metric]
        values = [float(value) for name in names if _is_number(value := (result or {}).get(name, math.nan))]
        if error or not result or ERROR in result or len(values) < len(names):
            if words := (result or {}).get(ERROR):
                trial.set_user_attr(ERROR, words)
            self.study.tell(trial, state=TrialState.FAIL)
            return
        trial.set_user_attr("iteration", result["iteration"])
        if result["finished"] or isinstance(self.metric, list):
            self.study.tell(trial, values)
        else:
            trial.report(values[0], result["iteration"])
            self.study.tell(trial, state=TrialState.PRUNED)

    @override
    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is saved at every trial."""

    @override
    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is there."""


def decoded(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Settings as a configuration takes them, from how the study keeps them."""
    return {name: space[name].decode(value) for name, value in params.items() if name in space}


def _is_whole(trial: FrozenTrial, space: Space) -> bool:
    return set(trial.params) == set(space)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _drop_half_line(path: Path) -> None:
    """Remove what a machine that lost its power has left of a line, which Optuna would stumble over."""
    if not path.exists():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
