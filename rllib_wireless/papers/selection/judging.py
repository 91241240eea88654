"""What the cells do: make policies, measure what they really earn, and estimate it from the log."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rllib_wireless.algorithms.training import train
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.papers.learning import Run, metrics_of, trained, work_folder
from rllib_wireless.papers.selection.setup import JUDGES, WORLDS, Scale, Source, World
from rllib_wireless.policies import PortablePolicy, evaluate, load_policy
from rllib_wireless.tuning import estimate

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm


def judge(s: Scale, world: str, source: str, out: Path, progress: Progress) -> Json:
    """Make a source's policies, measure and estimate each.

    Args:
        s: The scale.
        world: Of `WORLDS`.
        source: Of that network's sources.
        out: Output folder; the world models' runs are in `models/`, and made if they are not there yet.
        progress: Not told anything.

    Returns:
        `policies`, by name `truth`, `error` (its standard error), `metrics`, and `estimates` by judge.
    """
    w = WORLDS[world]
    with work_folder(out, f"{world}-{source}") as folder:
        _collect(s, w, w.behaviours, folder / "log")
        model = _model(s, world, out) if "model" in s.judges or w.sources[source].algorithm == "fedmorl" else None
        found: Json = {}
        for name, policy in _policies(s, w, world, source, folder, model):
            measured = _measure(s, w, policy)
            found[name] = {**measured, "estimates": _estimates(s, w, policy, folder / "log", model)}
    return {"policies": found}


def _policies(
    s: Scale, w: World, world: str, name: str, folder: Path, model: Path | None
) -> Iterator[tuple[str, PortablePolicy]]:
    """The source's policies: after each iteration that is kept, with each share of random actions."""
    source = w.sources[name]
    if source.algorithm == "fedmorl":
        assert model is not None, "FedMORL's policies are those of the world model's run"
        kept = {0: model}
    else:
        _train(s, w, source, folder)
        kept = {number: folder / "policies" / str(number) for number in source.kept}
    for number, path in kept.items():
        for epsilon in source.epsilons:
            yield f"{name}-{number}-{epsilon:g}", load_policy(path, epsilon=epsilon)


def _train(s: Scale, w: World, source: Source, folder: Path) -> None:
    behaviours = source.behaviours or w.behaviours
    run = Run(
        name="",
        env=w.env,
        env_config=w.env_config,
        steps=s.steps,
        data_seed=s.data_seed,
        train_seed=s.train_seed,
        test_seed=s.test_seed,
        test=w.test,
        behaviours=_behaviours(behaviours),
        algorithm=source.algorithm,
        settings=source.settings,
        iterations=max(source.kept),
    )
    if source.behaviours:
        _collect(s, w, source.behaviours, folder / "data")
    else:
        (folder / "data").symlink_to(folder / "log", target_is_directory=True)

    def keep(algorithm: "OfflineMultiAgentAlgorithm") -> None:
        if algorithm.iteration in source.kept:
            algorithm.export_policy(folder / "policies" / str(algorithm.iteration))

    with trained(run, folder, watch=keep):
        pass


def _model(s: Scale, world: str, out: Path) -> Path:
    """The training run of FedMORL whose world model judges, on the same decisions as the log, each station's in its own folder.

    Equal seeds give equal models. So where two cells need one that is not there yet both make it, and either may stay.
    """
    kept = out / "models" / world
    if not kept.exists():
        w = WORLDS[world]
        with _scratch(out / "models", world) as folder:
            collect(
                w.env,
                w.env_config,
                _behaviours(w.behaviours),
                s.steps,
                folder / "data",
                seed=s.data_seed,
                split="agents",
            )
            train(
                "fedmorl",
                w.env,
                out=folder / "run",
                data=folder / "data",
                env_config=w.env_config,
                settings=s.train_settings,
                seed=s.train_seed,
            )
            if not kept.exists():
                (folder / "run").rename(kept)
    return kept


@contextmanager
def _scratch(parent: Path, name: str) -> Iterator[Path]:
    folder = parent / f".{name}.{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(s: Scale, w: World, policy: PortablePolicy) -> Json:
    """What a policy really earns, with its standard error over copies or episodes: mean over agents of the reward per unit of time."""
    config = {**w.env_config, **w.test_config}
    test = s.test or w.test
    measured = evaluate(
        policy,
        w.env,
        config,
        num_envs=test.copies,
        steps=test.steps,
        warmup_steps=test.warmup_steps,
        seed=s.test_seed,
    )
    rows = measured.statistics
    slots = rows["slots"].astype(np.float64)
    reward = rows["reward"].reshape(len(slots), -1).mean(1)
    rate = reward.sum() / slots.sum()
    error = (reward - rate * slots).std(ddof=1) / slots.mean() / np.sqrt(len(slots))
    metrics = {name: None if np.isnan(value) else value for name, value in metrics_of(w.env, rows).items()}
    return {"truth": float(rate), "error": float(error), "metrics": metrics}


def _estimates(s: Scale, w: World, policy: PortablePolicy, log: Path, model: Path | None) -> Json:
    found: Json = {}
    for name in s.judges:
        arguments = _arguments(w, name, model) | (dict(s.judge_settings) if name.startswith("fqe") else {})
        begin = time.process_time()
        said = estimate(policy, log, seed=s.judge_seed, **arguments).to_json()
        found[name] = {**said, "cpu_seconds": round(time.process_time() - begin, 2)}
    return found


def _arguments(w: World, name: str, model: Path | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {**w.arguments, **JUDGES[name].arguments}
    if arguments.get("method") == "importance" and not w.recorded:
        arguments["behaviour"] = "fit"
    if arguments.get("method") == "model":
        arguments |= {"model": str(model), "view": "team" if w.plays else "agents"}
    return arguments


def _collect(
    s: Scale, w: World, names: tuple[str, ...], folder: Path, split: Literal["none", "agents"] = "none"
) -> None:
    acting = _behaviours(names)
    collect(w.env, w.env_config, acting, s.steps, folder, seed=s.data_seed, num_envs=w.copies, split=split)


def _behaviours(names: tuple[str, ...]) -> tuple[Behaviour, ...]:
    return tuple(Behaviour(name) for name in names)


def policies_of(results: Mapping[str, Json], world: str) -> Json:
    """All policies of a network that were judged, by name."""
    cells = [result for name, result in results.items() if name.startswith(f"{world}-")]
    return {name: policy for cell in cells for name, policy in cell["policies"].items()}
