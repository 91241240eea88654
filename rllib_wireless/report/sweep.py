"""A sweep as a page."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.errors import UserError
from rllib_wireless.papers.experiment import read_json
from rllib_wireless.report.data_set import data_section
from rllib_wireless.report.describe import (
    algorithm_settings,
    command,
    environment_settings,
    in_words,
    value_in_words,
    versions,
)
from rllib_wireless.report.page import Facts, Page, Picture, Pictures, Section, Table, Text
from rllib_wireless.report.vector import drawings
from rllib_wireless.tuning.figures import draw_all
from rllib_wireless.tuning.parallel import draw_parallel
from rllib_wireless.tuning.report import RESULTS
from rllib_wireless.tuning.settings import Sweep, read_sweep

Json = Mapping[str, Any]

_CAPTIONS = {
    "history": "What the trials reached, in the order in which they were tried.",
    "importance": "Which settings explain the differences between trials, by functional analysis of variance.",
    "pareto": "The objectives against each other, and the trials that no other one beats in both.",
    "parallel": "What the trials that were done were tried with and, at the right, what they reached: a line a trial, "
    "from violet to yellow the better it is in the first objective.",
}


def page(folder: Path) -> Page:
    """Best configuration, trials, figures and what was asked."""
    sweep, asked = read_sweep(folder)
    if not (folder / RESULTS).is_file():
        raise UserError(f"{folder}: no trial of this sweep has ended yet, so there is no {RESULTS}")
    content = read_json(folder / RESULTS)
    figures = [Picture(_CAPTIONS[name], svg) for name, svg in drawings(partial(_draw, content)).items()]
    sections = [
        Section("Best configuration", [*_best(sweep, content), *_best_command(folder)]),
        Section("Figures", [Pictures(figures)]),
        Section("Trials", [_trials(content)]),
        Section("What was asked", [_asked(sweep, asked)]),
        algorithm_settings(sweep.algorithm, sweep.settings),
        *environment_settings(sweep.env, sweep.env_config),
        *data_section(sweep.data),
        Section("Time and versions", [_time(content), versions(content["versions"])]),
    ]
    states = [trial["state"] for trial in content["trials"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    words = f"{algorithm_spec(sweep.algorithm).title} on {sweep.env}: {len(states)} trials, {counts}."
    title = f"Sweep of {sweep.algorithm} on {sweep.env}"
    return Page(title, words, folder / RESULTS, _again(sweep, asked, folder), sections)


def _draw(content: Json, out: Path) -> None:
    draw_all(content, out)
    draw_parallel(content, out / "parallel.png")


def _best(sweep: Sweep, content: Json) -> list[Table]:
    trials = {trial["number"]: trial for trial in content["trials"]}
    best = trials[content["best"]]
    defaults = next((t for t in content["trials"] if t["defaults"] and t["state"] == "done"), None)
    known = {d.name: d.default for d in algorithm_spec(sweep.algorithm).settings}
    known |= algorithm_spec(sweep.algorithm).defaults
    reached = [
        (
            o["name"],
            best["values"][o["name"]],
            None if defaults is None else defaults["values"][o["name"]],
            o["unit"],
            o["better"],
        )
        for o in content["objectives"]
    ]
    found = [
        (name, value_in_words(value), value_in_words(known.get(name)), content["space"][name])
        for name, value in best["settings"].items()
    ]
    of = f"trial {best['number']}" + (" (the defaults)" if best["defaults"] else "")
    return [
        Table(f"What {of} reached", ("objective", "best", "defaults", "unit", "better"), reached),
        Table(f"Settings of {of}", ("setting", "value", "default", "searched"), found, folded=False),
    ]


def _best_command(folder: Path) -> list[Text]:
    again = command("train", run=f"{folder.name}/best/run.yaml", out="run")
    return [Text("This trains with them:"), Text(again, command=True)]


def _trials(content: Json) -> Table:
    objectives = [o["name"] for o in content["objectives"]]
    searched = list(content["space"])
    failed = any(trial["error"] for trial in content["trials"])
    rows = [
        (
            trial["number"],
            _standing(trial, content),
            *(trial["values"].get(name) for name in objectives),
            trial["iterations"],
            trial["seconds"]["train"],
            *(value_in_words(trial["settings"][name]) if name in trial["settings"] else "" for name in searched),
            *((trial["error"] or "",) if failed else ()),
        )
        for trial in content["trials"]
    ]
    told = (*map(in_words, objectives), "iterations", "seconds of training", *searched)
    columns = ("trial", "state", *told, *(("error",) if failed else ()))
    return Table("All trials, in the order in which they began", columns, rows, folded=False)


def _standing(trial: Json, content: Json) -> str:
    words = [trial["state"]]
    words += ["best"] if trial["number"] == content["best"] else []
    words += ["front"] if len(content["objectives"]) > 1 and trial["number"] in content["front"] else []
    words += ["defaults"] if trial["defaults"] else []
    return ", ".join(words)


def _asked(sweep: Sweep, trials: int) -> Facts:
    rows = {
        "trials": trials,
        "objectives": ", ".join(m.name for m in sweep.objectives()),
        "compared": "in the environment" if sweep.select == "online" else f"by estimates from logs ({sweep.method})",
        "seeds of each trial": f"{sweep.seeds}, from {sweep.seed}",
        "iterations": sweep.iterations or "the algorithm's own",
        "ends trials early": sweep.scheduling(),
        "version": sweep.version,
    }
    return Facts(list(rows.items()))


def _time(content: Json) -> Facts:
    seconds = content["seconds"]
    return Facts(
        [
            ("seconds in total", round(seconds["wall"])),
            ("trials side by side", seconds["slots"]),
            ("share of that time in training", f"{100 * seconds['train_share']:.0f} %"),
        ]
    )


def _again(sweep: Sweep, trials: int, folder: Path) -> str:
    return command(
        "tune",
        sweep.algorithm,
        env=sweep.env,
        c=sweep.env_config,
        data=sweep.data,
        s=sweep.settings,
        search=[f"{name}={domain}" for name, domain in sweep.search.items()],
        trials=trials,
        iterations=sweep.iterations,
        seeds=sweep.seeds,
        metric=sweep.metrics,
        select=None if sweep.select == "online" else sweep.select,
        select_data=sweep.select_data,
        method=None if sweep.select == "online" else sweep.method,
        estimate=sweep.estimate_settings,
        every=sweep.every,
        scheduler=sweep.scheduler,
        seed=sweep.seed,
        out=folder.name or "sweep",
    )
