"""What the command line shows of its results, as tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table


def catalogue(content: dict[str, Any]) -> list[Table | str]:
    """What `list` describes."""
    shown: list[Table | str] = []
    for env in content["environments"]:
        shown += [
            f"\n{env['name']}: {env['description']}",
            table("Config (-c)", ("field", "default", "unit", "meaning"), _fields(env["config"])),
            table("Rules", ("rule", "parameters", "meaning"), [_rule_row(rule) for rule in env["rules"]]),
            table(
                "Metrics",
                ("metric", "unit", "better", "meaning"),
                [(m["name"], m["unit"], m["better"], m["description"]) for m in env["metrics"]],
            ),
        ]
    for algorithm in content["algorithms"]:
        shown += [
            f"\n{algorithm['name']}: {algorithm['description']}; needs {algorithm['needs']}",
            table(
                "Settings (-s)",
                ("field", "default", "searched by tune", "unit", "meaning"),
                [
                    (f["name"], f["default"], f["search"] or "", f["unit"], f["description"])
                    for f in algorithm["settings"]
                ],
            ),
        ]
    return shown


def data_info(content: dict[str, Any]) -> list[Table | str]:
    """What `data info` found."""
    card, agents = content["card"], content["agents"]
    words = f"{content['path']}: {card['kind']}, {card['environment']['name']}, {card['steps']:,} joint steps, "
    words += f"{content['bytes'] / 1e6:.1f} MB, {'complete' if card['complete'] else 'INCOMPLETE'}"
    rows = [
        (name, a["rows"], a["episodes"], _shares(a["action_shares"]), a["mean_reward"], a["mean_duration"])
        for name, a in agents.items()
        if a["rows"]
    ]
    columns = ("agent", "rows", "episodes", "share of actions", "mean reward", "mean duration")
    behaviour = table("Behaviour", ("policy", "share"), [(p["policy"], p["share"]) for p in card["policies"]])
    return [words, behaviour, table("Agents", columns, rows)]


def sharing_graph(selection: Any) -> list[Table | str]:
    """Who is to see whom, and the best candidate of each agent that sees nobody."""
    rows = []
    for agent, scores in selection.scores.items():
        chosen = sorted((s for s in scores if s.chosen), key=lambda s: s.chosen)
        for s in chosen or scores[:1]:
            rows.append(
                (
                    agent,
                    s.neighbour if chosen else f"nobody; best is {s.neighbour}",
                    s.hops,
                    s.gap,
                    s.gap_low,
                    s.cmi,
                    s.p_value,
                )
            )
    columns = ("agent", "sees", "links", "gap", "95 % from", "information (nats)", "p")
    return [table("Sharing graph", columns, rows), *selection.warnings]


def metrics(title: str, content: dict[str, Any]) -> Table:
    """What `evaluate` measured."""
    from rllib_wireless.envs import env_spec  # brings Numba along, which help pages can do without

    units = {metric.name: metric.unit for metric in env_spec(content["env"]).metrics}
    rows = [(name, m["mean"], m["std"], *m["ci95"], units.get(name, "")) for name, m in content["metrics"].items()]
    return table(title, ("metric", "mean", "std", "95 % from", "to", "unit"), rows)


def paper(module: Any, content: dict[str, Any], out: Path) -> list[Table | str]:
    """The comparison and the claims, or where cells are missing, which ones there are."""
    if "claims" not in content:
        return [f"{out}: {', '.join(content)} done; run without --only for the rest"]
    rows = module.table(content)
    names = [name for row in rows[:1] for name in row if name != "policy"]
    cells = [[row["policy"], *(row[name]["mean"] for name in names)] for row in rows]
    claims = [
        (c["claim"], c["measured"], *c["interval"], "yes" if c["met"] else "NO") for c in module.main_claims(content)
    ]
    return [
        table(f"{content['paper']}, {content['scale']}", ("policy", *names), cells),
        table("Claims", ("claim", "difference", "95 % from", "to", "met"), claims),
        f"{out / 'results.json'}, {out / 'figure.png'}",
    ]


def sweep(content: dict[str, Any], out: Path) -> list[Table | str]:
    """The best trials of a sweep, what they were tried with, and where the rest is."""
    names = [objective["name"] for objective in content["objectives"]]
    sign = 1 if content["objectives"][0]["better"] == "lower" else -1
    chosen = content["front"] if len(names) > 1 else []
    done = sorted((t for t in content["trials"] if t["state"] == "done"), key=lambda t: sign * t["values"][names[0]])
    shown = [t for t in done if t["number"] in chosen] or done[:5]
    shown += [t for t in done if t["defaults"] and t not in shown]
    rows = [
        (
            f"{t['number']}{' (best)' if t['number'] == content['best'] else ''}{' (defaults)' if t['defaults'] else ''}",
            *(t["values"][name] for name in names),
            " ".join(f"{name}={cell(value)}" for name, value in t["settings"].items()),
        )
        for t in shown
    ]
    states = [t["state"] for t in content["trials"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    seconds = content["seconds"]
    words = f"{out}: {counts}; {seconds['wall']:.0f} s, of which {100 * seconds['train_share']:.0f} % was training"
    return [
        table("Trials", ("trial", *names, "settings"), rows),
        words,
        f"{out / 'best' / 'run.yaml'} is for train --run",
    ]


def benchmarks(content: dict[str, Any]) -> Table:
    """What `bench` measured."""
    keys = ("benchmark", "name", "value", "unit", "target", "peer")
    return table("Speed", keys, [[row[key] for key in keys] for row in content["rows"]])


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table whose cells are printed as they are; numbers have four digits."""
    made = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, box=None, header_style="dim")
    for name in columns:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*(escape(cell(value)) for value in row))
    return made


def cell(value: object) -> str:
    """A value as the cell of a table."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _fields(fields: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(f["name"], f["default"], f["unit"], f["description"]) for f in fields]


def _rule_row(rule: dict[str, Any]) -> tuple[str, str, str]:
    parameters = " ".join(f"{f['name']}={f['default']}" for f in rule["parameters"])
    return rule["name"], parameters, rule["description"] + (" (privileged)" if rule["privileged"] else "")


def _shares(shares: list[float]) -> str:
    return " ".join(f"{share:.3f}" for share in shares)
