"""What a cell does: a policy from a log, which goes on learning online, and the test of all that was in use or tried."""

import dataclasses
from pathlib import Path

from rllib_wireless.algorithms.online import FineTuning
from rllib_wireless.algorithms.run import Run as TrainingRun
from rllib_wireless.algorithms.training import train
from rllib_wireless.data import Behaviour
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.papers.learning import Run, collect_log, measure_policy, metrics_of, work_folder
from rllib_wireless.papers.online.setup import WORLDS, Scale


def fine_tune(s: Scale, name: str, seed: int, out: Path, progress: Progress) -> Json:
    """Learn from a log, go on online, and measure the policies.

    Args:
        s: The scale.
        name: Of `WORLDS`.
        seed: Number of the seed.
        out: Output folder.
        progress: Told which share is done.

    Returns:
        `in_use`, metrics on the test of the policy in use before and after each deployment; `candidates`, those of each candidate;
        `accepted`, whether each candidate came into use; and `rule`, that of the first log.
    """
    world = WORLDS[name]
    run = _run(s, name, seed)
    with work_folder(out, run.name) as folder:
        collect_log(run, folder / "log", seed=run.data_seed)
        given = {
            "env_config": run.env_config, "settings": run.settings, "seed": run.train_seed, "iterations": run.iterations
        }  # fmt: skip
        train(run.algorithm, run.env, out=folder / "offline", data=folder / "log", **given)  # type: ignore[arg-type]
        online = {
            **world.online,
            "margins": dict(world.metrics),
            "deployments": s.deployments,
            "policy": str(folder / "offline"),
        }
        if s.steps is not None:
            online["steps"] = s.steps
        data = str(folder / "log") if "window" not in world.online else None
        (folder / "online").mkdir()
        going_on = FineTuning(
            TrainingRun(
                run.algorithm, run.env, dict(run.env_config), data, dict(run.settings), run.train_seed, online=online
            ),
            folder / "online",
            lambda candidate, place: train(
                candidate.algorithm,
                candidate.env,
                out=place,
                data=candidate.data,
                env_config=candidate.env_config,
                settings=candidate.settings,
                seed=candidate.seed,
                iterations=run.iterations,
            ),
        )
        in_use, candidates = [_test(run, name, going_on.in_use())], []
        while not going_on.finished:
            row = going_on.step()
            candidates.append(_test(run, name, folder / f"online/deployments/{row['iteration']}/run"))
            in_use.append(candidates[-1] if row["accepted"] else in_use[-1])
            progress(run.name, going_on.share_done)
        return {
            "in_use": in_use,
            "candidates": candidates,
            "accepted": [row["accepted"] for row in going_on.rows],
            "rule": _test(run, name, world.behaviour),
        }


def _test(run: Run, name: str, policy: Path | str) -> dict[str, float]:
    tested = dataclasses.replace(run, env_config={**run.env_config, **WORLDS[name].test_fields})
    found = metrics_of(run.env, measure_policy(tested, policy).statistics)
    return {metric: found[metric] for metric in WORLDS[name].metrics}


def _run(s: Scale, name: str, seed: int) -> Run:
    world = WORLDS[name]
    return Run(
        name=f"{name}_{seed}",
        env=world.env,
        env_config=dict(world.env_config),
        steps=s.steps or world.steps,
        data_seed=s.data_seed + seed,
        train_seed=s.train_seed + seed,
        test_seed=s.test_seed + seed,
        test=world.test,
        behaviours=(Behaviour(world.behaviour),),
        algorithm=world.algorithm,
        settings=dict(world.settings),
        iterations=world.iterations,
    )
