"""Sweeps: Ray Tune runs trials side by side, Optuna chooses what they try, and a killed sweep goes on where it was.

settings.yaml     what was asked
study.journal     Optuna's study, unless a database holds it: every configuration that was tried, and what came of it
trials/           a folder per trial: a line per measurement, and a training run per seed
tune/             what Ray Tune writes: a table of results and TensorBoard's events of each trial
results.json      all trials, the best one, what matters how much, and how long it took
best/             run.yaml, which `train --run` takes, and the policies; `front/` beside it where there are several objectives
history.png importance.png pareto.png
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rllib_wireless import storage as files
from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.algorithms.run import plain
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.tracking import WandbMode
from rllib_wireless.tuning.settings import SETTINGS, Scheduler, Select, Sweep, read_sweep
from rllib_wireless.tuning.spaces import defaults_in

Json = dict[str, Any]


def tune(
    algorithm: str,
    env: str,
    *,
    out: Path | str,
    trials: int,
    data: Path | str | None = None,
    env_config: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    search: Mapping[str, str] | None = None,
    iterations: int | None = None,
    seeds: int = 1,
    seed: int = 0,
    select: Select = "online",
    select_data: Path | str | None = None,
    method: str = "fqe",
    estimate_settings: Mapping[str, Any] | None = None,
    metrics: Sequence[str] = (),
    every: int | None = None,
    scheduler: Scheduler | None = None,
    storage: str | None = None,
    **arguments: Any,
) -> Json:
    """Search an algorithm's settings in a folder.

    Every configuration is trained with the same seeds and measured on what no result is measured on. The first one is the
    algorithm's defaults.

    Args:
        algorithm: Its name.
        env: The environment's name.
        out: The folder.
        trials: Configurations in total.
        data: The data set's folder, where the algorithm needs one.
        env_config: The environment's configuration.
        settings: Settings that are fixed, and are then not searched.
        search: Domains in place of the declared ones, by setting: `1e-4..1e-2:log`, `2..8` or `[a, b]`.
        iterations: Iterations of each training; the algorithm's own number or end if not given.
        seeds: How many seeds every configuration is trained with; the mean counts.
        seed: The first of them.
        select: `online`, by evaluations in the environment, or `offline`, by estimates from recorded data.
        select_data: What `offline` estimates from; the data set itself if not given.
        method: How it does, as `estimate` takes it.
        estimate_settings: Settings of that method, likewise.
        metrics: Objectives, metrics of the environment; its own if none are given.
        every: Iterations between two measurements; 1 if not given, and offline only the end.
        scheduler: Ends trials that do badly: `asha`, `median` or `none`; `asha` if not given, and `none` with several objectives.
        storage: URL of a database for the study; a file in the folder if not given.
        **arguments: `resume`, `concurrent`, `wandb`, `progress` and `note` of `resume_sweep`.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: At anything unknown or wrong; where the folder holds a sweep and `resume` is not set; or where all trials fail.
    """
    sweep = Sweep(
        algorithm=algorithm,
        env=env,
        env_config=dict(env_config or {}),
        data=_absolute(data),
        settings=dict(settings or {}),
        search=dict(search or {}),
        iterations=iterations,
        seeds=seeds,
        seed=seed,
        select=select,
        select_data=_absolute(select_data),
        method=method,
        estimate_settings=dict(estimate_settings or {}),
        metrics=tuple(metrics),
        every=every,
        scheduler=scheduler,
        storage=storage,
    )
    return _run(sweep, Path(out).absolute(), trials, **arguments)


def resume_sweep(out: Path | str, trials: int | None = None, **arguments: Any) -> Json:
    """Go on with the sweep in a folder, told by its `settings.yaml` alone.

    Args:
        out: The folder.
        trials: Configurations in total; as many as were asked for if not given.
        **arguments: `concurrent`, how many trials run side by side at most; `wandb`, whether Weights & Biases follows them;
            `progress`, called with the share that is done; `note`, called with a line for each trial that ends.

    Raises:
        UserError: Where the folder holds no sweep.
    """
    out = Path(out).absolute()
    sweep, asked = read_sweep(out)
    return _run(sweep, out, asked if trials is None else trials, resume=True, **arguments)


def _run(
    sweep: Sweep,
    out: Path,
    trials: int,
    *,
    resume: bool = False,
    concurrent: int | None = None,
    wandb: WandbMode = "off",
    progress: Callable[[float], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Json:
    # Ray and Optuna take seconds to import, and a mistake should be told at once.
    from rllib_wireless.tuning.report import Seconds, report
    from rllib_wireless.tuning.runner import run_trials
    from rllib_wireless.tuning.search import ENDED, StudySearch, new_sampler, open_storage, open_study

    begin = time.monotonic()
    for name, value in (("trials", trials), ("concurrent", concurrent)):
        if value is not None and value < 1:
            raise ConfigError("tune", name, value, "it should be at least 1")
    sweep.check()
    _open_folder(sweep, out, trials, resume)
    objectives, space = sweep.objectives(), sweep.space()
    study = open_study(open_storage(sweep.storage, out), str(out) if sweep.storage else out.name, objectives)
    if not study.trials:
        defaults = defaults_in(algorithm_spec(sweep.algorithm), space)
        study.enqueue_trial(defaults, {"defaults": len(defaults) == len(space)})
    sampler = new_sampler(sweep.seed, len(study.trials), trials, len(objectives))
    search = StudySearch(study, space, objectives, sampler)
    missing = trials - len(study.get_trials(states=ENDED, deepcopy=False))
    seconds = Seconds()
    if missing > 0:
        seconds = run_trials(sweep, out, search, missing, concurrent, wandb, progress, note)
    seconds.wall = time.monotonic() - begin
    return report(sweep, out, study, seconds, wandb)


def _open_folder(sweep: Sweep, out: Path, trials: int, resume: bool) -> None:
    """Write `settings.yaml` into a new folder, or check that the folder's sweep is this one."""
    if not (out / SETTINGS).exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} exists and is not an empty folder; give another one")
        out.mkdir(parents=True, exist_ok=True)
    elif not resume:
        raise UserError(f"{out} holds a sweep already: give --resume to go on with it, or another folder")
    else:
        before, now = plain(asdict(read_sweep(out)[0])), plain(asdict(sweep))
        for name, value in now.items():
            if name != "version" and before[name] != value:
                raise UserError(
                    f"{out} holds a sweep with {name} = {before[name]}, not {value}: it cannot go on as such"
                )
    sweep.save(out, trials)


def _absolute(path: Path | str | None) -> str | None:
    return None if path is None else files.absolute(path)
