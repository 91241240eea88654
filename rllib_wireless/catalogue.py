"""What there is, by name: the content of `rllib-wireless list`."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rllib_wireless.algorithms.registry import VARIANTS, algorithm_names, algorithm_spec
from rllib_wireless.configuration import Configuration
from rllib_wireless.envs import EnvSpec, Rule, env_names, env_spec
from rllib_wireless.errors import UserError

Json = dict[str, Any]


def describe(name: str | None = None) -> Json:
    """Environments and algorithms, as JSON can hold them.

    Args:
        name: Only the environment or algorithm of this name. Describing algorithms imports Ray.

    Returns:
        `environments` with config fields, rules and metrics, and `algorithms` with settings and needs.

    Raises:
        UserError: Where there is nothing of that name.
    """
    if name is not None and name not in (*env_names(), *algorithm_names(), *VARIANTS):
        raise UserError(
            f"there is no environment or algorithm {name!r}; environments are {', '.join(env_names())}, "
            f"algorithms are {', '.join((*algorithm_names(), *VARIANTS))}"
        )
    return {
        "environments": [_environment(env_spec(n)) for n in env_names() if name in (None, n)],
        "algorithms": [_algorithm(n) for n in (*algorithm_names(), *VARIANTS) if name in (None, n)],
    }


def _environment(spec: EnvSpec) -> Json:
    metrics = [{"name": m.name, "unit": m.unit, "better": m.better, "description": m.description} for m in spec.metrics]
    return {
        "name": spec.env.name,
        "description": spec.description,
        "duration_unit": spec.env.duration_unit,
        "gamma": spec.env.gamma,
        "config": _fields(spec.config),
        "rules": [_rule(name, rule) for name, rule in spec.rules.items()],
        "metrics": metrics,
    }


def _rule(name: str, rule: Rule) -> Json:
    return {
        "name": name,
        "description": rule.description,
        "privileged": rule.privileged,
        "parameters": _fields(rule.config, rule.defaults or {}),
    }


def _algorithm(name: str) -> Json:
    """An algorithm, with what `tune` searches; of a variant the settings in which it differs."""
    from rllib_wireless.tuning.spaces import declared_space

    spec, variant = algorithm_spec(name), name in VARIANTS
    space = declared_space(spec)
    settings = [
        {**f, "search": str(space[f["name"]]) if f["name"] in space else None}
        for f in _fields(spec.config.settings, spec.defaults)
    ]
    return {
        "name": spec.name,
        "description": f"{VARIANTS[name][0]} with other settings: {spec.description}" if variant else spec.description,
        "needs": str(spec.requirements),
        "settings": [f for f in settings if f["name"] in spec.defaults] if variant else settings,
    }


def _fields(config: type[Configuration], defaults: Mapping[str, Any] | None = None) -> list[Json]:
    """The fields of a configuration, with the defaults that a rule has of its own."""
    return [{**asdict(f), "default": (defaults or {}).get(f.name, f.default)} for f in config.documentation()]
