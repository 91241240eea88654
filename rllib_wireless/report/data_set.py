"""A data set in a page, from its card alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rllib_wireless import storage
from rllib_wireless.configuration import Configuration
from rllib_wireless.data.card import Card, read_card
from rllib_wireless.data.format import CARD
from rllib_wireless.envs import env_names, env_spec
from rllib_wireless.errors import DataError
from rllib_wireless.report.describe import command, environment_settings, value_in_words
from rllib_wireless.report.page import Facts, Page, Part, Section, Table, Text


def page(folder: Path) -> Page:
    """All that a data set's card says."""
    card = read_card(folder)
    env = card.environment.name
    sections = [Section("What it holds", _parts(card)), *environment_settings(env, card.environment.config)]
    words = "Of its card alone: what was recorded, of whom, and how."
    title = f"Data set {folder.resolve().name}: {env}"
    return Page(title, words, folder / CARD, _command(card, folder), sections)


def data_section(data: str | None) -> list[Section]:
    """The data set that something was learned from; nothing where there was none."""
    if data is None:
        return []
    if storage.is_remote(data):
        return [Section("Data", [Text(f"The data set is {data}, which was not opened for this page.")])]
    try:
        card = read_card(data)
    except DataError as error:
        return [Section("Data", [Text(f"The data set cannot be shown: {error}")])]
    return [Section("Data", [Text(data), *_parts(card)])]


def _parts(card: Card) -> list[Part]:
    policies = [
        (p.policy, p.share, p.steps, " ".join(f"{k}={value_in_words(v)}" for k, v in p.params.items()), p.seed)
        for p in card.policies
    ]
    agents = [(name, a.transitions, a.dropped, a.return_mean, a.return_std) for name, a in card.agents.items()]
    overview = [
        ("environment", card.environment.name),
        ("kind", card.kind),
        ("complete", "yes" if card.complete else "no"),
        ("joint steps", f"{card.steps:,}"),
        ("rows", f"{sum(a.transitions for a in card.agents.values()):,}, {_ROWS[card.rows]}"),
        ("agents", len(card.agents)),
        ("episodes that ended", f"{card.episodes:,}"),
        ("probabilities of actions", card.action_prob),
        ("seed", card.seed),
        ("source", card.source),
        ("versions", " ".join(f"{name.replace('_', '-')} {value}" for name, value in card.versions.items())),
    ]
    return [
        Facts([(name, value) for name, value in overview if value is not None]),
        Table("Policies that acted", ("policy", "share", "joint steps", "parameters", "seed"), policies),
        Table("Agents", ("agent", "rows", "left out", "mean return", "its standard deviation"), agents),
        Table("Metrics over all that was recorded", ("metric", "value", "unit"), _metrics(card)),
    ]


_ROWS = {"decisions": "one a decision", "all": "one an agent and step"}


def _metrics(card: Card) -> list[tuple[str, float | None, str]]:
    known = env_spec(card.environment.name).metrics if card.environment.name in env_names() else ()
    units = {m.name: m.unit for m in known}
    return [(name, value, units.get(name, "")) for name, value in card.metrics.items()]


def _command(card: Card, folder: Path) -> str | None:
    """What collects it again; None for what was not collected, and for one client's part."""
    env = card.environment
    if card.source is not None or card.kind == "client" or not card.policies or env.name not in env_names():
        return None
    several = len(card.policies) > 1
    return command(
        "collect",
        env.name,
        c=_changed(env_spec(env.name).config, env.config),
        policy=[f"{p.policy}:{p.share:g}" if several else p.policy for p in card.policies],
        s={(f"{p.policy}." if several else "") + key: value for p in card.policies for key, value in p.params.items()},
        steps=card.steps,
        rows=None if card.rows == "decisions" else card.rows,
        split="agents" if card.kind == "clients" else None,
        num_envs=card.num_envs,
        seed=card.seed,
        out=folder.name or "data",
    )


def _changed(config: type[Configuration], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that differ from what they are if not given."""
    defaults = {d.name: d.default for d in config.documentation()}
    return {name: value for name, value in given.items() if name not in defaults or value != defaults[name]}
