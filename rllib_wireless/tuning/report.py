"""What a sweep leaves behind: `results.json`, the best configuration as `run.yaml`, and figures."""

import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import orjson
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from rllib_wireless.algorithms.run import RUN, plain, read_lines, write_atomically
from rllib_wireless.data.card import versions
from rllib_wireless.envs.registry import Metric
from rllib_wireless.errors import UserError
from rllib_wireless.tracking import WandbMode, tracked
from rllib_wireless.tuning.figures import draw_all
from rllib_wireless.tuning.search import ERROR, decoded
from rllib_wireless.tuning.settings import Sweep
from rllib_wireless.tuning.trial import ERRORS, seed_folder, trial_name

Json = dict[str, Any]

RESULTS = "results.json"

_STATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


@dataclass
class Seconds:
    """What the time of a sweep was spent on, since it began or went on.

    Attributes:
        wall: In total.
        slots: Trials that ran side by side at most.
        train: Of all trials together, in what learns.
        evaluate: Of all trials together, in evaluations and estimates.
        step: Of all trials together, from one result to the next: these and the writing of checkpoints and policies.
    """

    wall: float = 0.0
    slots: int = 1
    train: float = 0.0
    evaluate: float = 0.0
    step: float = 0.0

    def add(self, told: Mapping[str, float]) -> None:
        """Add what a trial tells."""
        for name, value in told.items():
            setattr(self, name, getattr(self, name) + value)

    def to_json(self) -> Json:
        """All of it, and the share of the time that there was which was spent on learning, and on learning and measuring."""
        there_was = self.wall * self.slots
        shares = {"train_share": self.train, "train_and_evaluate_share": self.train + self.evaluate}
        return {**asdict(self), **{name: value / there_was if there_was else 0.0 for name, value in shares.items()}}


def report(sweep: Sweep, out: Path, study: optuna.Study, seconds: Seconds, wandb: WandbMode = "off") -> Json:
    """Write everything that a sweep leaves behind.

    Args:
        sweep: The sweep.
        out: Its folder.
        study: Its study.
        seconds: What its time was spent on.
        wandb: Whether Weights & Biases gets the figures and the best configuration.

    Returns:
        The content of `results.json`.

    Raises:
        UserError: Where all trials failed, with the first one's words.
    """
    objectives, space = sweep.objectives(), sweep.space()
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state in _STATES]
    done = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    if not done:
        first = next((trial for trial in ended if trial.state == TrialState.FAIL), None)
        if first is None:
            raise UserError(f"{out}: no trial has ended")
        raise UserError(f"all {len(ended)} trials failed; the first one: {_error(first, out)}")
    front = pareto_front(done, objectives)
    best = best_of(done, front, objectives)
    content: Json = {
        "algorithm": sweep.algorithm,
        "env": sweep.env,
        "objectives": [{"name": m.name, "unit": m.unit, "better": m.better} for m in objectives],
        "space": {name: str(domain) for name, domain in space.items()},
        "best": best.number,
        "front": [trial.number for trial in front],
        "trials": [_trial(trial, sweep, out) for trial in ended],
        "importance": {m.name: _importance(study, k, len(objectives)) for k, m in enumerate(objectives)},
        "seconds": seconds.to_json(),
        "versions": versions(),
    }
    content = plain(content)
    write_atomically(out / RESULTS, orjson.dumps(content, option=orjson.OPT_INDENT_2))
    _write_best(sweep, out, best, front if len(objectives) > 1 else ())
    figures = draw_all(content, out)
    if wandb != "off":
        _track(out, content, figures, wandb)
    return content


def pareto_front(done: Sequence[FrozenTrial], objectives: Sequence[Metric]) -> list[FrozenTrial]:
    """Trials that no other one beats in everything, best in the first objective first."""
    scores = {trial.number: _scores(trial, objectives) for trial in done}

    def beaten(mine: Sequence[float]) -> bool:
        return any(
            all(b >= a for a, b in zip(mine, other, strict=True))
            and any(b > a for a, b in zip(mine, other, strict=True))
            for other in scores.values()
        )

    front = [trial for trial in done if not beaten(scores[trial.number])]
    return sorted(front, key=lambda trial: scores[trial.number], reverse=True)


def best_of(done: Sequence[FrozenTrial], front: Sequence[FrozenTrial], objectives: Sequence[Metric]) -> FrozenTrial:
    """Of a front, the trial with the largest sum of its objectives, each scaled to run from 0 to 1 over the trials that were done."""
    scores = [_scores(trial, objectives) for trial in done]
    low, high = (
        [min(column) for column in zip(*scores, strict=True)],
        [max(column) for column in zip(*scores, strict=True)],
    )

    def scaled(trial: FrozenTrial) -> float:
        of = _scores(trial, objectives)
        return float(sum((s - a) / (b - a) for s, a, b in zip(of, low, high, strict=True) if b > a))

    return max(front, key=scaled)


def table_row(sweep: Sweep, ended: Sequence[FrozenTrial], number: int, count: int, missing: int) -> str:
    """A line about a trial that has ended, with the best one so far."""
    objectives, space = sweep.objectives(), sweep.space()
    (trial,) = [t for t in ended if t.number == number]
    settings = " ".join(f"{name}={_short(value)}" for name, value in decoded(trial.params, space).items())
    if trial.state == TrialState.FAIL:
        outcome = f"failed: {trial.user_attrs.get(ERROR, 'its process was lost')}"
    else:
        values = trial.values if trial.state == TrialState.COMPLETE else [trial.value]
        outcome = ", ".join(f"{m.name} {_short(v)}" for m, v in zip(objectives, values or [], strict=False))
        outcome += "" if trial.state == TrialState.COMPLETE else f", stopped after {trial.user_attrs['iteration']}"
    done = [t for t in ended if t.state == TrialState.COMPLETE]
    best = best_of(done, pareto_front(done, objectives), objectives) if done else None
    record = "" if best is None else f" (best {trial_name(best.number)})"
    return f"{count:>3}/{missing} {trial_name(number)}  {outcome}{record}  {settings}"


def _trial(trial: FrozenTrial, sweep: Sweep, out: Path) -> Json:
    """A trial in `results.json`."""
    rows = read_lines(out / "trials" / trial_name(trial.number))
    seconds = Seconds()
    for row in rows:
        seconds.add(row["seconds"])
    names = [m.name for m in sweep.objectives()]
    return {
        "number": trial.number,
        "state": _STATES[trial.state],
        "defaults": trial.user_attrs.get("defaults", False),
        "settings": decoded(trial.params, sweep.space()),
        "values": {name: rows[-1][name] for name in names} if rows else {},
        "seeds": rows[-1]["seeds"] if rows else {},
        "iterations": rows[-1]["iteration"] if rows else 0,
        "history": [{"iteration": row["iteration"], **{name: row[name] for name in names}} for row in rows],
        "seconds": {"train": seconds.train, "evaluate": seconds.evaluate, "step": seconds.step},
        "error": _error(trial, out),
    }


def _error(trial: FrozenTrial, out: Path) -> str | None:
    """Why a trial failed; of one whose process was lost the last line that is known."""
    if trial.state != TrialState.FAIL:
        return None
    path = out / "trials" / trial_name(trial.number) / ERRORS
    lines = path.read_text().split("\n") if path.exists() else []
    return str(
        trial.user_attrs.get(ERROR) or next((line for line in reversed(lines) if line.strip()), "its process was lost")
    )


def _scores(trial: FrozenTrial, objectives: Sequence[Metric]) -> tuple[float, ...]:
    """The objectives' values, larger ones better."""
    return tuple(v if m.better == "higher" else -v for v, m in zip(trial.values, objectives, strict=True))


def _importance(study: optuna.Study, objective: int, count: int) -> dict[str, float]:
    """Share of the variance of an objective that each setting explains; nothing where too little is known."""
    target = (lambda trial: trial.values[objective]) if count > 1 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), target=target)
        except (ValueError, RuntimeError):  # a single trial, or values that are all alike
            return {}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _write_best(sweep: Sweep, out: Path, best: FrozenTrial, front: Sequence[FrozenTrial]) -> None:
    """The best configuration as `train --run` takes it, with the policies that the sweep trained; those of a front likewise."""
    wanted = {out / "best": best, **{out / "front" / trial_name(trial.number): trial for trial in front}}
    shutil.rmtree(out / "front", ignore_errors=True)
    task, space = sweep.task(out), sweep.space()
    for folder, trial in wanted.items():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        task.run(decoded(trial.params, space), sweep.seed).save(folder / RUN)
        for seed in task.seeds:
            policy = seed_folder(task.folder_of(trial.number), seed) / "policy"
            if policy.is_dir():
                shutil.copytree(policy, folder / f"policy_seed_{seed}")


def _track(out: Path, content: Json, figures: Sequence[str], mode: WandbMode) -> None:
    """A run of Weights & Biases for the sweep as a whole, beside those of its trials."""
    config = {name: content[name] for name in ("algorithm", "env", "objectives", "space")}
    best = next(trial for trial in content["trials"] if trial["number"] == content["best"])
    with tracked(out, config, wandb=mode, group=out.name, job_type="sweep") as tracker:
        tracker.log({"best": best["values"], "seconds": content["seconds"]}, len(content["trials"]))
        for name in figures:
            tracker.figure(name, out / f"{name}.png")
        tracker.artifact(f"best-{out.name}", "policy", out / "best")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace(" ", "")
