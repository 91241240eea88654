"""What a cell does: a sweep, and then its best settings beside the defaults on new logs and tests."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rllib_wireless.algorithms.run import RUN_FIELDS
from rllib_wireless.data import Behaviour
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.papers.learning import Run, collect_log, measure_policy, metrics_of, trained, work_folder
from rllib_wireless.papers.tuning.setup import SEARCHES, Scale
from rllib_wireless.tuning import tune

ARMS = ("defaults", "tuned")


def sweep_and_test(s: Scale, name: str, out: Path, progress: Progress) -> Json:
    """Search, or go on with the search in `out / "sweeps"`, and test what was found.

    Args:
        s: The scale.
        name: Of `SEARCHES`.
        out: Output folder.
        progress: Not told anything.

    Returns:
        `settings` that were found; `validation`, the objectives by arm; `test`, metrics by arm for each seed; `sweep`, what it took.
    """
    search, folder = SEARCHES[name], out / "sweeps" / name
    log = folder.with_name(f"{name}-log")
    run = _run(s, name, s.sweep_seed, {})
    if not folder.exists():
        shutil.rmtree(log, ignore_errors=True)
        collect_log(run, log / "data", seed=s.sweep_seed)
    content = tune(
        search.algorithm,
        search.env,
        out=folder,
        trials=s.trials[name],
        data=log / "data",
        env_config=search.env_config,
        settings=search.settings,
        iterations=s.iterations[name],
        seed=s.sweep_seed,
        metrics=search.metrics,
        resume=folder.exists(),
    )
    by_number = {trial["number"]: trial for trial in content["trials"]}
    defaults = next(trial for trial in content["trials"] if trial["defaults"])
    best = by_number[content["best"]]
    found = yaml.safe_load((folder / "best" / "run.yaml").read_text())["settings"]
    tests = []
    for k in range(s.test_seeds):
        run = _run(s, name, k, {})
        with work_folder(out, f"{name}_{k}") as work:
            collect_log(run, work / "data", seed=run.data_seed)
            by_default = _test(run, work)
            tuned = by_default if best is defaults else _test(_run(s, name, k, found), work)
            tests.append({"defaults": by_default, "tuned": tuned})
    shutil.rmtree(log, ignore_errors=True)
    return {
        "settings": found,
        "validation": {"defaults": defaults["values"], "tuned": best["values"]},
        "test": tests,
        "sweep": {"trials": len(content["trials"]), "seconds": content["seconds"], "best": content["best"]},
    }


def _test(run: Run, work: Path) -> dict[str, float]:
    search = SEARCHES[run.name.split("-")[0]]
    with trained(run, work) as algorithm:
        algorithm.export_policy(work / "policy")
    found = metrics_of(run.env, measure_policy(run, work / "policy", fields=search.test_fields).statistics)
    return {name: value for name, value in found.items() if value == value}  # what is undefined is NaN


def _run(s: Scale, name: str, k: int, found: Mapping[str, Any]) -> Run:
    search = SEARCHES[name]
    return Run(
        name=f"{name}-{k}",
        env=search.env,
        env_config=dict(search.env_config),
        steps=search.steps,
        data_seed=s.data_seed + k,
        train_seed=s.train_seed + k,
        test_seed=s.test_seed + k,
        test=search.test,
        behaviours=(Behaviour(search.behaviour),),
        algorithm=search.algorithm,
        settings={k: v for k, v in {**search.settings, **found}.items() if k not in RUN_FIELDS},
        iterations=s.iterations[name],
    )
