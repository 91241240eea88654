"""What several kinds of pages have in common: settings, tables of measurements, environments and commands."""

import dataclasses
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.algorithms.run import plain
from rllib_wireless.configuration import FieldDoc
from rllib_wireless.envs import env_names, env_spec
from rllib_wireless.report.page import Facts, Part, Section, Table
from rllib_wireless.tables import cell

Json = Mapping[str, Any]


def algorithm_settings(algorithm: str, given: Json) -> Section:
    """What an algorithm is run with, first what differs from its defaults."""
    spec = algorithm_spec(algorithm)
    docs = [dataclasses.replace(d, default=spec.defaults.get(d.name, d.default)) for d in spec.settings]
    return Section(f"Settings of {algorithm}", settings(given, docs))


def environment_settings(env: str, given: Json) -> list[Section]:
    """What an environment is run with, first what differs from its defaults; nothing of one that is known by data alone."""
    if env not in env_names():
        return []
    config: Any = env_spec(env).config
    values = dataclasses.asdict(config.parse(given))
    return [Section(f"Configuration of {env}", settings(values, config.documentation()))]


def settings(given: Json, docs: Sequence[FieldDoc]) -> list[Part]:
    """What differs from the defaults, and folded what does not.

    Args:
        given: Values by name.
        docs: What is known of the settings.
    """
    known = {d.name: d for d in docs}
    changed = [name for name, value in given.items() if name not in known or not _equal(value, known[name].default)]
    rest = [d for d in docs if d.name not in changed]
    rows = [(name, value_in_words(given[name]), *_known_of(known.get(name))) for name in changed]
    kept = [(d.name, value_in_words(d.default), d.unit, d.description) for d in rest]
    parts: list[Part] = []
    if rows:
        columns = ("setting", "value", "default", "unit", "meaning")
        parts.append(Table("What differs from the defaults", columns, rows, folded=False))
    if kept:
        caption = f"{len(kept)} settings at their defaults" if rows else f"All {len(kept)} settings at their defaults"
        parts.append(Table(caption, ("setting", "value", "unit", "meaning"), kept, folded=True))
    return parts


def measured(metric: Json | None) -> str:
    """A mean with its 95 % interval, if it has one."""
    if metric is None:
        return ""
    lower, upper = metric["ci95"]
    shown = cell(metric["mean"])
    return shown if lower is None or upper is None else f"{shown} ({cell(lower)} to {cell(upper)})"


def in_words(name: str) -> str:
    """A name of the code as a column's heading."""
    return name.replace("_", " ")


def value_in_words(value: object) -> str:
    """A setting's value, as the command line takes it."""
    value = plain(value)
    if value is None:
        return "none"
    if isinstance(value, str | float):
        return cell(value)
    return json.dumps(value, ensure_ascii=False)


def versions(found: Mapping[str, str]) -> Facts:
    """Of the software."""
    return Facts([(name.replace("_", "-"), value) for name, value in found.items()])


def command(*words: str, **options: object) -> str:
    """A command of the command line; options that are None are left out, and those of a mapping repeat as `name=value`."""
    return " ".join(["rllib-wireless", *map(shlex.quote, [*words, *_options(options)])])


def _options(options: Mapping[str, object]) -> Iterable[str]:
    for name, value in options.items():
        option = "-" + name if len(name) == 1 else "--" + name.replace("_", "-")
        if isinstance(value, Mapping):
            for key, item in value.items():
                yield from (option, f"{key}={_yaml(item)}")
        elif isinstance(value, list | tuple):
            for item in value:
                yield from (option, str(item))
        elif value is not None:
            yield from (option, str(value))


def _yaml(value: object) -> str:
    """A value as `name=value` takes it: JSON, which is YAML; plain text without quotes where it stays text."""
    value = plain(value)
    if isinstance(value, str) and value.replace("_", "").replace("/", "").isalpha() and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "none", "y", "n"}
"""Which YAML takes, or readers might take, for something else than text."""


def _equal(a: object, b: object) -> bool:
    return bool(plain(a) == plain(b))


def _known_of(doc: FieldDoc | None) -> tuple[str, str, str]:
    return ("", "", "") if doc is None else (value_in_words(doc.default), doc.unit, doc.description)
