"""`estimate`: one way to ask what a policy is worth, whichever way it is found out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from rllib_wireless.configuration import Configuration
from rllib_wireless.data.card import Card
from rllib_wireless.errors import UserError
from rllib_wireless.policies.portable import PortablePolicy, load_policy, policy_folder
from rllib_wireless.tuning.offline.fqe import FQESettings, fitted_q_evaluation
from rllib_wireless.tuning.offline.importance import ImportanceSettings, importance_sampling
from rllib_wireless.tuning.offline.log import Logs, View, read_logs
from rllib_wireless.tuning.offline.model import ModelSettings, model_rollouts
from rllib_wireless.tuning.offline.result import Found, Progress

Method = Literal["fqe", "importance", "model"]


class _Run(Protocol):
    def __call__(
        self, policies: list[PortablePolicy], logs: Logs, settings: Any, seed: int, progress: Progress
    ) -> Found: ...


@dataclass(frozen=True)
class _Method:
    run: _Run
    settings: type[Configuration]


METHODS: Mapping[str, _Method] = {
    "fqe": _Method(fitted_q_evaluation, FQESettings),
    "importance": _Method(importance_sampling, ImportanceSettings),
    "model": _Method(model_rollouts, ModelSettings),
}


@dataclass(frozen=True)
class Estimate:
    """What a policy is worth; larger is better.

    Attributes:
        value: Mean over the agents of the discounted return from the start of an episode; where episodes never end but by a
            limit of time, of the reward per unit of time.
        ci95: Its 95 % interval; NaN where there is none.
        method: How it was estimated.
        unit: What `value` is.
        n: Rows of the log that were used.
        notes: What a reader should know: effective sample sizes, coverage, what was assumed.
    """

    value: float
    ci95: tuple[float, float]
    method: str
    unit: str
    n: int
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain values; what is undefined is None."""
        value, *interval = (x if np.isfinite(x) else None for x in (self.value, *self.ci95))
        kept = {"value": value, "ci95": interval, "method": self.method, "unit": self.unit}
        return {**kept, "n": self.n, "notes": list(self.notes)}


def estimate(
    policy: PortablePolicy | Path | str,
    data: Path | str,
    *,
    method: Method = "fqe",
    view: View = "auto",
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    **settings: Any,
) -> Estimate:
    """Estimate from a log what a policy would earn.

    Args:
        policy: A portable policy, or its folder, or the folder of a training run.
        data: A data set: joint, one agent's, or a folder for each agent.
        method: `fqe`, fitted Q evaluation; `importance`, importance sampling; `model`, rollouts in FedMORL's world model.
        view: Whether the log is read as the `team`'s joint decisions, or as each of the `agents`' own, as if the others went on
            as they did in the log; `auto` is the team where the data are joint and aligned.
        seed: Seed of everything that is drawn.
        progress: Called now and then with the share that is done.
        **settings: Fields of `FQESettings`, `ImportanceSettings` or `ModelSettings`.

    Raises:
        UserError: At an unknown method or setting, a policy that cannot be estimated or does not fit, or data that lack what
            the method needs.
    """
    if method not in METHODS:
        raise UserError(f"there is no method {method!r}; methods are {', '.join(METHODS)}")
    if view not in ("auto", "team", "agents"):
        raise UserError(f"view = {view!r}, but it should be auto, team or agents")
    chosen = METHODS[method]
    parsed: Any = chosen.settings.parse(settings)
    loaded = _load(policy)
    # An agent alone has no say in what the others do; a central policy has no part that is one agent's.
    logs = read_logs(Path(data), "team" if loaded.centralized else view, parsed.gamma)
    policies = _parts_of(loaded, logs)
    found = chosen.run(policies, logs, parsed, seed, progress or (lambda share: None))
    unit = (
        f"reward per {logs.card.environment.duration_unit.removesuffix('s')}" if logs.endless else "discounted return"
    )
    notes = [*found.notes]
    if not logs.team:
        notes.append("each agent is judged alone, as if the others went on as they did in the log")
    return Estimate(found.value, found.ci95, method, unit, logs.num_rows, notes)


def _load(policy: PortablePolicy | Path | str) -> PortablePolicy:
    if isinstance(policy, PortablePolicy):
        return policy
    if policy_folder(policy) is None:
        raise UserError(
            f"{policy} is no folder with a trained policy; rules cannot be estimated from logs, as they remember what the log "
            "does not say: clone one with `train bc` first"
        )
    return load_policy(policy)


def _parts_of(policy: PortablePolicy, logs: Logs) -> list[PortablePolicy]:
    """The policies of the agents of each log, checked to fit.

    Raises:
        UserError: Naming what differs.
    """
    card: Card = logs.card
    names = [name for part in logs.parts for name in part.agents]
    if lacking := [name for name in names if name not in policy.agents]:
        raise UserError(f"the data are of {', '.join(lacking)}, for whom the policy does not act")
    if logs.team and policy.agents != logs.parts[0].agents:
        raise UserError(f"the policy acts for {', '.join(policy.agents)}, but the data are of {', '.join(names)}")
    shape = (card.environment.obs_size, card.environment.num_actions)
    if (policy.obs_size, policy.num_actions) != shape:
        raise UserError(
            f"the policy maps {policy.obs_size} observed values to {policy.num_actions} actions, but the data have {shape[0]} "
            f"and {shape[1]}"
        )
    if logs.team:
        return [policy]
    return [policy.slice(policy.agents.index(name)) for name in names]
