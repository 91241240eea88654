r"""Importance sampling, for each decision and self-normalised.

A logged reward counts in proportion to how much more likely the policy was to come to it (Precup, Sutton & Singh, "Eligibility
Traces for Off-Policy Policy Evaluation", ICML 2000),

    sum_h  sum_w rho_wh gamma ** t_wh R_wh / sum_w rho_wh,     rho_wh = prod_{k <= h} pi(a_wk | o_wk) / b(a_wk | o_wk).

A trajectory w is an episode; where episodes never end, H decisions from any logged one on. The ratio of
joint actions is the product over agents. It is exact, and its spread grows with agents and decisions like no other thing here:
the effective number of trajectories says how many are left.
"""

from typing import ClassVar, NamedTuple

import numpy as np
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, Configuration, field
from rllib_wireless.policies.portable import PortablePolicy
from rllib_wireless.tuning.offline.behaviour import Behaviour, behaviour_probabilities
from rllib_wireless.tuning.offline.log import Floats, Log, Logs, as_step
from rllib_wireless.tuning.offline.result import Found, Progress, bootstrap_counts, of_resamples

_FEW = 20.0
"""Effective trajectories below which an estimate says little."""


@dataclass(frozen=True, config=CONFIG)
class ImportanceSettings(Configuration):
    """How logged decisions are weighted."""

    owner: ClassVar[str] = "importance sampling"

    behaviour: Behaviour = field("recorded", "Where the probabilities of logged actions come from.")
    gamma: float | None = field(None, "Discount per unit of time; the environment's if not given.", ge=0.0, lt=1.0)
    horizon: int = field(10, "Decisions H of a trajectory, where episodes never end.", ge=1)
    max_ratio: float | None = field(None, "Ratios of one decision are clipped here; never if not given.", ge=1.0)


def importance_sampling(
    policies: list[PortablePolicy], logs: Logs, settings: ImportanceSettings, seed: int, progress: Progress
) -> Found:
    """Estimate by weights.

    Args:
        policies: A policy for each log.
        logs: The logs; the ratios of a team's are those of joint actions.
        settings: How decisions are weighted.
        seed: Seed of the bootstrap over trajectories, and of a fitted behaviour.
        progress: Told the share that is done.

    Raises:
        UserError: Where probabilities are not recorded and no model of them is asked for.
    """
    parts = []
    for number, (policy, log) in enumerate(zip(policies, logs.parts, strict=True)):
        log_ratio = _log_ratio(policy, log, settings, seed + number)
        horizon = settings.horizon if logs.endless else None
        parts.append(_Trajectories.of(log, log_ratio, horizon, logs.num_units))
        progress((number + 1) / len(policies))
    counts = np.concatenate([np.ones((1, logs.num_units)), bootstrap_counts(logs.num_units, seed)])
    values = np.mean([part.value(counts, logs) for part in parts], axis=0)
    value, ci95 = of_resamples(float(values[0]), values[1:])
    effective, total = min(part.effective for part in parts), min(part.number for part in parts)
    notes = [f"{effective:.1f} effective trajectories of {total:.1f}"]
    if effective < _FEW:
        notes.append(
            f"fewer than {_FEW:.0f} effective trajectories: the policy does what the log hardly holds, and neither value nor "
            "interval can be relied on"
        )
    if settings.behaviour == "fit":
        notes.append("probabilities of the behaviour are those of a clone")
    if not logs.endless and any((~log.goes_on & (log.discount > 0.0)).any() for log in logs.parts):
        notes.append("episodes that were cut off count as if nothing had followed")
    return Found(value, ci95, notes)


def _log_ratio(policy: PortablePolicy, log: Log, settings: ImportanceSettings, seed: int) -> Floats:
    """log pi / b of the joint actions, [T]."""
    law = policy.probabilities(as_step(log.obs, log.action_mask))
    chosen = np.take_along_axis(law, log.actions[..., None], -1)[..., 0].astype(np.float64)
    behaved = behaviour_probabilities(log, settings.behaviour, seed).astype(np.float64)
    with np.errstate(divide="ignore"):
        ratio: Floats = (np.log(chosen) - np.log(behaved)).sum(1)
    return ratio if settings.max_ratio is None else np.minimum(ratio, np.log(settings.max_ratio))


class _Trajectories(NamedTuple):
    """Sums over the trajectories that begin in each of U units, [U, H]; a trajectory that has ended keeps its last weight."""

    weight: Floats
    reward: Floats  # weight * reward, discounted to the start
    time: Floats  # weight * (1 - discount of the decision), discounted to the start
    effective: float  # (sum of weights)^2 / sum of squares in the end, of trajectories side by side
    number: float

    @classmethod
    def of(cls, log: Log, log_ratio: Floats, horizon: int | None, num_units: int) -> "_Trajectories":
        """The trajectories that begin at the log's starts; with a horizon they end after so many decisions, and overlap."""
        starts = np.flatnonzero(log.starts)
        ends = np.flatnonzero(~log.goes_on)
        left = ends[np.searchsorted(ends, starts)] - starts + 1
        depth = int(left.max()) if horizon is None else min(horizon, int(left.max()))
        rows = starts[:, None] + np.minimum(np.arange(depth), left[:, None] - 1)
        there = np.arange(depth) < left[:, None]
        total = np.cumsum(np.where(there, log_ratio[rows], 0.0), 1)
        # Weights of equal depth are compared with each other alone, so each depth has a scale of its own.
        top = total.max(0)
        weight = np.exp(total - np.where(np.isfinite(top), top, 0.0))
        discount = np.where(there, log.discount[rows], 0.0)
        before = np.cumprod(np.concatenate([np.ones((len(rows), 1)), discount[:, :-1]], 1), 1) * there
        reward, time = weight * before * log.rewards[rows], weight * before * (1.0 - log.discount[rows])
        sums = np.zeros((num_units, 3, depth))
        np.add.at(sums, log.unit[starts], np.stack([weight, reward, time], 1))
        overlap = 1.0 if horizon is None else min(float(depth), float(left.mean()))
        last = weight[:, -1]
        effective = last.sum() ** 2 / max((last**2).sum(), 1e-300) / overlap
        return cls(sums[:, 0], sums[:, 1], sums[:, 2], float(effective), len(starts) / overlap)

    def value(self, counts: Floats, logs: Logs) -> Floats:
        """The estimate [R] where units count so often, [R, U]."""
        total = np.maximum(counts @ self.weight, 1e-300)
        returns: Floats = (counts @ self.reward / total).sum(1)
        if not logs.endless:
            return returns
        elapsed = (counts @ self.time / total).sum(1) / (1.0 - logs.gamma)
        rate: Floats = returns / np.maximum(elapsed, 1e-300)
        return rate
