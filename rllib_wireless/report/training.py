"""A training run as a page."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rllib_wireless.algorithms.curves import Panel, draw_panel, evaluation_in, panels
from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.algorithms.run import PROGRESS, RUN, Run, read_lines, read_run
from rllib_wireless.envs import env_spec
from rllib_wireless.policies.portable import load_policy, policy_folder
from rllib_wireless.report.data_set import data_section
from rllib_wireless.report.describe import algorithm_settings, command, environment_settings
from rllib_wireless.report.page import Facts, Page, Part, Picture, Pictures, Section, Table, Text
from rllib_wireless.report.vector import drawings


def page(folder: Path) -> Page:
    """Settings, data, curves, last evaluation and policy."""
    run = read_run(folder)
    rows = read_lines(folder)
    sections = [
        Section("Last evaluation", _evaluation(run, rows)),
        _curves(run, rows),
        algorithm_settings(run.algorithm, run.settings),
        *environment_settings(run.env, run.env_config),
        *data_section(run.data),
        Section("Policy", [_policy(folder)]),
    ]
    spec = algorithm_spec(run.algorithm)
    iterations = int(rows[-1]["iteration"]) if rows else 0
    words = f"{spec.title}: {spec.description}. {iterations} iterations, seed {run.seed}, version {run.version}."
    if run.online is not None:
        words += f" It went on online from {run.online['policy']}."
    online = run.online or {}
    again = command(
        "train",
        run.algorithm,
        env=run.env,
        c=run.env_config,
        data=run.data,
        online=online.get("policy"),
        s=run.settings | {f"online.{name}": value for name, value in online.items() if name != "policy"},
        iterations=iterations or run.iterations,
        seed=run.seed,
        out=folder.name or "run",
    )
    source = folder / (PROGRESS if rows else RUN)
    return Page(f"{run.algorithm} on {run.env}", words, source, again, sections)


def _evaluation(run: Run, rows: Sequence[dict[str, Any]]) -> list[Part]:
    found = next(((row["iteration"], e) for row in reversed(rows) if (e := evaluation_in(row))), None)
    if found is None:
        return [Text("No policy was evaluated in training; -s evaluation_interval=1 evaluates after each iteration.")]
    iteration, of = found
    lower, upper = of.get("lower95") or {}, of.get("upper95") or {}
    table = [
        (m.name, of[m.name], lower.get(m.name), upper.get(m.name), m.unit, m.better)
        for m in env_spec(run.env).metrics
        if m.name in of
    ]
    columns = ("metric", "mean", "95 % from", "to", "unit", "better")
    return [Table(f"Metrics after iteration {iteration}", columns, table)]


def _curves(run: Run, rows: Sequence[dict[str, Any]]) -> Section:
    found = panels(rows, run.env)
    parts: list[Section] = []
    for title, metric in (("Metrics", True), ("What learners tell", False)):
        if shown := [_picture(panel) for panel in found if panel.metric is metric]:
            parts.append(Section(title, [Pictures(shown, small=True)]))
    return Section("Curves", [] if parts else [Text("No iteration has ended yet.")], parts)


def _picture(panel: Panel) -> Picture:
    (svg,) = drawings(partial(_draw, panel)).values()
    return Picture(panel.title, svg)


def _draw(panel: Panel, out: Path) -> None:
    draw_panel(panel, out / "panel.png")


def _policy(folder: Path) -> Part:
    """The policy so far, read without running any of its code, as there is none in it."""
    where = policy_folder(folder)
    if where is None:
        return Text("The run has no policy yet.")
    policy = load_policy(where)
    _, tensors = policy.to_portable()
    size = sum(file.stat().st_size for file in where.iterdir())
    fields = ", ".join(f.name if f.size == 1 else f"{f.name} ({f.size})" for f in policy.obs_fields or ())
    return Facts(
        [
            ("kind", policy.kind),
            ("agents", f"{len(policy.agents)}: {_few(policy.agents)}"),
            ("acts", "with what all agents observe" if policy.centralized else "each agent by what it observes"),
            ("observes", fields or policy.obs_size),
            ("actions", policy.num_actions),
            ("numbers in its arrays", f"{sum(math.prod(array.shape) for array in tensors.values()):,}"),
            ("size", f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"),
        ]
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]}, ..., {names[-1]}"
