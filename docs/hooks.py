"""MkDocs hook: tables that are made from the code, so that no page repeats a default or a name.

A comment `<!-- table: KIND ARGUMENTS -->` in a page becomes a table:

    settings rllib_wireless.algorithms.baselines.bc.BCSettings    fields of a Configuration
    rules | metrics | observations channel_access                 what an environment has
    presets rllib_wireless.envs.radio_resource.RadioResourceConfig   the fields that presets give other defaults
    algorithms                                                    all algorithms and what they need
    spaces | objectives                                           what sweeps search, and what they optimise
    csv environments/channel_access.csv num_stations=2,8          rows of a file, less columns that are empty
    comparison | claims | experiment results/NAME/results.json    what `rllib-wireless reproduce` wrote
    claims results/NAME/results.json ^study-                      only the claims whose id this regular expression finds
    by_size results/NAME/results.json plan                        a policy's claims, a row for each number of stations
    study results/NAME/results.json mixture                       the arms of a study
    study results/NAME/results.json sizes score tail_rate         only these of their metrics
    variants results/NAME/results.json                            settings of the learned policies
"""

import csv
import importlib
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_wireless.algorithms.registry import algorithm_names, algorithm_spec
from rllib_wireless.configuration import Configuration
from rllib_wireless.console import key_values
from rllib_wireless.envs import env_names, env_spec, make_env
from rllib_wireless.papers.experiment import read_json
from rllib_wireless.tuning.spaces import SPACES

DOCS = Path(__file__).parent
MARKER = re.compile(r"<!-- table: (\w+) ?(.*?) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with every page."""
    return MARKER.sub(lambda match: TABLES[match[1]](*match[2].split()), markdown)


def settings(path: str) -> str:
    """Every field of a Configuration, named by its dotted path."""
    module, _, name = path.rpartition(".")
    config: type[Configuration] = getattr(importlib.import_module(module), name)
    return table(
        ("field", "default", "unit", "meaning", "source"),
        [(_code(f.name), _default(f.default, f.type), f.unit, f.description, f.source) for f in config.documentation()],
    )


def presets(path: str) -> str:
    """The fields that the presets of a Configuration give other defaults."""
    module, _, name = path.rpartition(".")
    config: type[Configuration] = getattr(importlib.import_module(module), name)
    presets = sys.modules[config.__module__].PRESETS
    defaults = {f.name: f.default for f in config.documentation()}
    changed = dict.fromkeys(field for preset in presets.values() for field in preset)
    rows = [
        (_code(field), *(_code(str(preset.get(field, defaults[field]))) for preset in presets.values()))
        for field in changed
    ]
    return table(("field", *map(_code, presets)), rows)


def rules(env: str) -> str:
    """The rules of an environment, with the defaults of their parameters."""
    rows = []
    for name, rule in env_spec(env).rules.items():
        defaults = {f.name: f.default for f in rule.config.documentation()} | dict(rule.defaults or {})
        parameters = ", ".join(_code(f"{key}={value}") for key, value in defaults.items())
        rows.append((_code(name), parameters, rule.description, "yes" if rule.privileged else ""))
    return table(("rule", "parameters", "what it does", "privileged"), rows)


def metrics(env: str) -> str:
    """The metrics of an environment."""
    rows = [(_code(m.name), m.unit, m.better, m.description) for m in env_spec(env).metrics]
    return table(("metric", "unit", "better", "what it is"), rows)


def observations(env: str, *config: str) -> str:
    """The observation fields of an environment under a configuration, `name=value`."""
    fields = make_env(env, **key_values(config, "config")).obs_fields
    return table(
        ("field", "kind", "columns", "what it is"), [(_code(f.name), f.kind, f.size, f.description) for f in fields]
    )


def algorithms() -> str:
    """All algorithms."""
    specs = [algorithm_spec(name) for name in algorithm_names()]
    return table(
        ("algorithm", "class", "what it is", "needs"),
        [(_code(s.name), _code(s.title), s.description, str(s.requirements)) for s in specs],
    )


def spaces() -> str:
    """What sweeps of each algorithm search."""
    rows = []
    for name in algorithm_names():
        for setting, domain in SPACES[name].items():
            when = ", ".join(f"{_code(other)} {' or '.join(map(str, values))}" for other, values in domain.when.items())
            rows.append((_code(name), _code(setting), _code(str(domain)), when))
    return table(("algorithm", "setting", "searched", "only with"), rows)


def objectives() -> str:
    """What sweeps optimise in each environment, and how its policies are validated."""
    rows = []
    for name in env_names():
        spec = env_spec(name)
        better = {m.name: m.better for m in spec.metrics}
        fields = ", ".join(_code(f"{field}={value}") for field, value in spec.validation.items())
        rows.append((_code(name), ", ".join(f"{_code(m)} ({better[m]})" for m in spec.objectives), fields))
    return table(("environment", "metrics", "validated with"), rows)


def csv_rows(path: str, *conditions: str) -> str:
    """Rows of a CSV file that meet `column=value,value` conditions; the columns conditions fix are left out if constant."""
    with (DOCS / path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    for column, _, allowed in (condition.partition("=") for condition in conditions):
        rows = [row for row in rows if row[column] in allowed.split(",")]
    if not rows:
        return "Not run yet."
    constant = {c for c, _, allowed in (condition.partition("=") for condition in conditions) if "," not in allowed}
    columns = [name for name in rows[0] if name not in constant and any(row[name] for row in rows)]
    return table([name.replace("_", " ") for name in columns], [[row[name] for name in columns] for row in rows])


def comparison(path: str) -> str:
    """The policies of a results file, each metric with its 95 % interval."""
    content = read_json(DOCS / path)
    rows = importlib.import_module(f"rllib_wireless.papers.{content['paper']}").table(content)
    names = [name for name in rows[0] if name != "policy"]
    return table(
        ("policy", *(name.replace("_", " ") for name in names)),
        [(row["policy"], *(f"{_number(row[n]['mean'])} ({_interval(row[n]['ci95'])})" for n in names)) for row in rows],
    )


def claims(path: str, pattern: str = "") -> str:
    """What a results file says of the paper's claims."""
    rows = [
        (c["claim"], c["paper"], _measured(c), "yes" if c["met"] else "no")
        for c in read_json(DOCS / path)["claims"]
        if re.search(pattern, c["id"])
    ]
    return table(("claim", "in the paper", "difference (95 %)", "met"), rows)


def by_size(path: str, policy: str) -> str:
    """The differences that a policy's claims are about, a row for each number of stations; what is not met is bold."""
    found: dict[str, dict[str, str]] = {}
    for c in read_json(DOCS / path)["claims"]:
        if match := re.fullmatch(rf"{policy}-(\w+)-(\w+)-(\d+)", c["id"]):
            shown = f"{_number(c['measured'])} ({_interval(c['interval'])})"
            column = f"{match[2]} - {match[1]}".replace("_", " ")
            found.setdefault(match[3], {})[column] = shown if c["met"] else f"**{shown}**"
    columns = list(dict.fromkeys(name for row in found.values() for name in row))
    return table(("N", *columns), [(n, *(row.get(name, "") for name in columns)) for n, row in found.items()])


def study(path: str, name: str, *wanted: str) -> str:
    """The arms of a study: what they are, and their metrics, or those wanted, with 95 % intervals over training seeds."""
    rows = read_json(DOCS / path)["studies"].get(name, [])
    if not rows:
        return "Not run yet."
    metrics = wanted or tuple(dict.fromkeys(metric for row in rows for metric in row["metrics"]))
    return table(
        (*rows[0]["arm"], *(metric.replace("_", " ") for metric in metrics)),
        [(*row["arm"].values(), *(_estimate(row["metrics"].get(metric)) for metric in metrics)) for row in rows],
    )


def variants(path: str) -> str:
    """The settings of the learned policies that differ from the defaults."""
    found = read_json(DOCS / path)["settings"]["variants"].values()
    rows = [
        (v["label"], ", ".join(_code(f"{k}={x}") for k, x in (v["settings"] | v["env_config"]).items())) for v in found
    ]
    return table(("policy", "settings"), rows)


def experiment(path: str) -> str:
    """What a results file was computed with, and how long it took."""
    content = read_json(DOCS / path)
    settings = {name: value for name, value in content["settings"].items() if not isinstance(value, dict)}
    if cells := content.get("cells"):
        settings["cells"] = f"{cells['done']} of {cells['of']}"
    rows = [(_code(name), value) for name, value in (settings | content["versions"]).items()]
    return table(("", ""), [*rows, ("seconds, all parts together", round(sum(content["seconds"].values())))])


TABLES: dict[str, Callable[..., str]] = {
    "settings": settings,
    "presets": presets,
    "rules": rules,
    "metrics": metrics,
    "observations": observations,
    "algorithms": algorithms,
    "spaces": spaces,
    "objectives": objectives,
    "csv": csv_rows,
    "comparison": comparison,
    "claims": claims,
    "experiment": experiment,
    "by_size": by_size,
    "study": study,
    "variants": variants,
}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`"


def _estimate(metric: Mapping[str, Any] | None) -> str:
    """A mean and its interval; a single seed has none."""
    if metric is None:
        return ""
    return _number(metric["mean"]) + (f" ({_interval(metric['ci95'])})" if metric["n"] > 1 else "")


def _measured(claim: Mapping[str, Any]) -> str:
    """The number that decides a claim, and its interval if there is one."""
    bounds = claim["interval"]
    return _number(claim["measured"]) + ("" if bounds[0] is None else f" ({_interval(bounds)})")


def _interval(bounds: Sequence[float | None]) -> str:
    return " to ".join(map(_number, bounds))


def _number(value: float | None) -> str:
    """With three decimals, or one where it is large."""
    if value is None or math.isnan(value):
        return "none"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _default(value: object, type_name: str) -> str:
    """The default, and the other values where there are only a few."""
    shown = "none" if value is None else _code(str(value).lower() if isinstance(value, bool) else str(value))
    choices = re.search(r"Literal\[(.*?)\]", type_name)
    others = [c for c in re.findall(r"[\w.]+", choices[1]) if c != str(value)] if choices else []
    return f"{shown}, or {', '.join(map(_code, others))}" if others else shown
