"""What a cell does: a policy from a log, which goes on learning online, and the test of all that was in use or tried."""

from pathlib import Path
from typing import Any

from rllib_wireless.algorithms.run import read_lines
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
        given: dict[str, Any] = {
            "env_config": run.env_config, "settings": run.settings, "seed": run.train_seed, "iterations": run.iterations
        }  # fmt: skip
        train(run.algorithm, run.env, out=folder / "offline", data=folder / "log", **given)
        online = {
            **world.online,
            "margins": dict(world.metrics),
            "deployments": s.deployments,
            "policy": folder / "offline",
        }
        if s.steps is not None:
            online["steps"] = s.steps
        data = folder / "log" if "window" not in world.online else None
        going_on = folder / "online"
        train(
            run.algorithm, run.env, out=going_on, data=data, online=online, **given,
            progress=lambda row, share: progress(run.name, share or 0.0),
        )  # fmt: skip
        accepted = [row["accepted"] for row in read_lines(going_on)]
        candidates = [_test(run, name, going_on / f"deployments/{k}/run") for k in range(1, len(accepted) + 1)]
        in_use = [_test(run, name, folder / "offline")]
        for candidate, taken in zip(candidates, accepted, strict=True):
            in_use.append(candidate if taken else in_use[-1])
        return {
            "in_use": in_use,
            "candidates": candidates,
            "accepted": accepted,
            "rule": _test(run, name, world.behaviour),
        }


def _test(run: Run, name: str, policy: Path | str) -> dict[str, float]:
    found = metrics_of(run.env, measure_policy(run, policy, fields=WORLDS[name].test_fields).statistics)
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
