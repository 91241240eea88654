"""check_algorithm: whether an algorithm keeps its promises in an environment, and the matrix of all with all."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rllib_wireless.algorithms.registry import algorithm_names, algorithm_spec
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.algorithms.training import train
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.envs import env_names, env_spec, make_env
from rllib_wireless.errors import UserError
from rllib_wireless.policies import load_policy
from rllib_wireless.testing.check import require
from rllib_wireless.testing.policy import check_policy


@dataclass(frozen=True)
class Pairing:
    """An algorithm and an environment.

    Attributes:
        algorithm: The algorithm's name.
        env: The environment's name.
        refused: Whether the algorithm declares that it is not made for the environment.
    """

    algorithm: str
    env: str
    refused: bool


def matrix() -> list[Pairing]:
    """Every registered algorithm with every registered environment, from their declarations."""
    return [
        Pairing(algorithm, env, _refused(algorithm_spec(algorithm).requirements, env))
        for algorithm in algorithm_names()
        for env in env_names()
    ]


def check_algorithm(
    algorithm: str,
    env: str,
    out: Path,
    *,
    env_config: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    data: bool | None = None,
    steps: int = 800,
    seed: int = 0,
) -> None:
    """Check that an algorithm trains in an environment, or refuses it, as its requirements declare.

    It trains from its own kind of log: to its second iteration at one go and in two runs, which must leave equal progress and
    equal policies, bit for bit; the policy must pass `check_policy`. Data of the other layout must be refused, and none at all
    where the algorithm needs some.

    Args:
        algorithm: The algorithm's name.
        env: The environment's name.
        out: An empty folder for logs and runs.
        env_config: The environment's configuration.
        settings: The algorithm's; small ones keep the check short.
        data: Whether to train from data where that is optional; where not given, only where it is required.
        steps: Joint decisions in the log.
        seed: Seed of log and training.

    Raises:
        CheckFailed: Naming what is wrong and the remedy.
    """
    needs = algorithm_spec(algorithm).requirements
    run = functools.partial(
        train, algorithm, env, env_config=dict(env_config or {}), settings=dict(settings or {}), seed=seed
    )
    log: Path | None = None
    if data or needs.data == "required":
        log = out / "data"
        _collect(needs, env, env_config, steps, log, seed)
    if _refused(needs, env):
        _require_refusal(
            lambda: run(out=out / "refused", data=log), f"training in {env}", "Check requirements.environments"
        )
        return
    if needs.data == "required":
        _require_refusal(lambda: run(out=out / "no_data"), "training without data", "Declare data='optional'")
    if log is not None and needs.layout != "any":
        other = dataclasses.replace(needs, layout="agents" if needs.layout == "joint" else "joint")
        _collect(other, env, env_config, steps, out / "other_data", seed)
        _require_refusal(
            lambda: run(out=out / "other", data=out / "other_data"),
            "data of the other layout",
            "Check requirements.layout",
        )
    run(out=out / "whole", data=log, iterations=2)
    run(out=out / "parts", data=log, iterations=1)
    run(out=out / "parts", data=log, iterations=2, resume=True)
    _require_equal(out / "whole", out / "parts")
    arrays = load_policy(out / "whole" / "policy").to_portable()[1]
    finite = all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f")
    require(finite, "the policy holds numbers that are not finite", "Raise a UserError where training diverges")
    check_policy(
        lambda bound: load_policy(out / "whole" / "policy"),
        functools.partial(make_env, env, **dict(env_config or {})),
        num_steps=30,
        seed=seed,
    )


def _refused(needs: Requirements, env: str) -> bool:
    return needs.environments is not None and env not in needs.environments


def _collect(
    needs: Requirements, env: str, env_config: Mapping[str, Any] | None, steps: int, out: Path, seed: int
) -> None:
    """A log of the environment's first rule that any agent could follow, as the algorithm wants it."""
    rule = next(name for name, rule in env_spec(env).rules.items() if not rule.privileged)
    collect(
        env,
        dict(env_config or {}),
        [Behaviour(rule)],
        steps,
        out,
        seed=seed,
        split="agents" if needs.layout == "agents" else "none",
        rows="all" if needs.aligned else "decisions",
    )


def _require_refusal(attempt: Any, what: str, remedy: str) -> None:
    try:
        attempt()
    except UserError:
        return
    require(False, f"{what} is not refused with a UserError", remedy)


def _require_equal(whole: Path, parts: Path) -> None:
    """Two runs left the same progress and the same policy."""
    progress = [(folder / "progress.jsonl").read_bytes() for folder in (whole, parts)]
    require(
        progress[0] == progress[1],
        "a resumed run makes other progress",
        "Put all that learning depends on into get_state",
    )
    a, b = (load_policy(folder / "policy").to_portable()[1] for folder in (whole, parts))
    same = a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
    require(same, "a resumed run learns another policy", "Put all that learning depends on into get_state")
