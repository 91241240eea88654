"""Cells about small systems that linear programs solve: gradients, the approximation's error, the best constraints."""

from pathlib import Path

import numpy as np

from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.cmdp import device_cmdp, solve
from rllib_wireless.envs.task_offloading.device import Floats, congestion, congestion_slope
from rllib_wireless.envs.task_offloading.joint import (
    best_constraints,
    evaluate_jointly,
    expected_congestion,
    joint_optimum,
    value_of_constraints,
)
from rllib_wireless.papers.dcc.learning import build, learn
from rllib_wireless.papers.dcc.setup import DCC_ARMS, Scale
from rllib_wireless.papers.experiment import Json, Progress

LAWS = ("fresh", "full", "uniform", "average")
"""Start laws of the discounted criterion, and the average one, which has none."""

_FINITE, _TINY = 0.05, 1e-6
_LOWEST, _HIGHEST = 0.06, 0.3
_FOREVER = 500
"""Slots after which .95^t is nothing."""


def gradients(s: Scale, alpha: float, seed: int, out: Path, progress: Progress) -> Json:
    """Both derivatives at random constraints: quotients of finite and of tiny differences beside proposition 3."""
    env = build(s.theory_devices, s.environment_seed + seed, penalty_exponent=alpha)
    limits = np.random.default_rng(seed).uniform(_LOWEST, _HIGHEST, s.theory_devices)
    found = [_derivatives(env, i, limits[i], limits.sum() - limits[i]) for i in range(s.theory_devices)]
    return {"devices": found}


def _derivatives(env: TaskOffloading, i: int, limit: float, others: float) -> Json:
    mdp, config = device_cmdp(env.devices, i, env.gamma), env.config

    def value(k: float, k_others: float) -> float:
        price = float(congestion(1.0 + k_others, config.penalty_exponent, config.penalty_scale))
        return solve(mdp, k, price).value

    here = solve(mdp, limit, float(congestion(1.0 + others, config.penalty_exponent, config.penalty_scale)))
    slope = congestion_slope(np.array([1.0 + others]), config.penalty_exponent, config.penalty_scale)[0]
    return {
        "local_finite": (value(limit + _FINITE, others) - here.value) / _FINITE,
        "coupling_finite": (value(limit, others + _FINITE) - here.value) / _FINITE,
        "local_right": (value(limit + _TINY, others) - here.value) / _TINY,
        "local_left": (here.value - value(limit - _TINY, others)) / _TINY,
        "minus_lambda": -here.multiplier,
        "coupling_right": (value(limit, others + _TINY) - here.value) / _TINY,
        "coupling_left": (here.value - value(limit, others - _TINY)) / _TINY,
        "slope_usage": float(slope * here.usage),
    }


def approximation(s: Scale, alpha: float, seed: int, out: Path, progress: Progress) -> Json:
    """Lemma 1: the cost under the approximate reward beside the true one, for the policies of linear programs."""
    limits = np.random.default_rng(seed).uniform(_LOWEST, _HIGHEST, s.theory_devices)
    return {"laws": {law: _error(s, alpha, seed, law, limits) for law in LAWS}}


def _error(s: Scale, alpha: float, seed: int, law: str, limits: Floats) -> Json:
    start = {} if law == "average" else {"start": law}
    env = build(s.theory_devices, s.environment_seed + seed, penalty_exponent=alpha, **start)
    gamma = 1.0 if law == "average" else env.gamma
    n, others = len(limits), limits.sum() - limits
    prices = congestion(1.0 + others, alpha, env.config.penalty_scale)
    found = [solve(device_cmdp(env.devices, i, gamma), limits[i], prices[i]) for i in range(n)]
    # K is what the policies do: the lemma's premise.
    usages = np.array([f.usage for f in found])
    others = usages.sum() - usages
    expected = congestion(1.0 + others, alpha, env.config.penalty_scale)
    local = sum(f.value - price * f.usage for f, price in zip(found, prices, strict=True))
    if law == "average":
        true = local + expected_congestion(usages, env.penalty)
    else:
        true = evaluate_jointly(env, np.stack([f.policy for f in found]), _FOREVER).discounted
    # Chord of f over {1, ..., N}: above a convex f and below a concave one.
    chord = others / (n - 1) * env.penalty[n]
    bound = float(usages @ np.abs(chord - expected))
    return {"approximate": float(local + usages @ expected), "true": true, "bound": bound}


def beside_the_best(s: Scale, num_devices: int, seed: int, out: Path, progress: Progress) -> Json:
    """Where DCC's constraints and policies lie between the best constraints and what devices could do together."""
    env = build(num_devices, s.environment_seed + seed)
    processes = [device_cmdp(env.devices, i, env.gamma) for i in range(num_devices)]
    best = best_constraints(env)
    arms = {}
    for name, settings in DCC_ARMS.items():
        found = learn("dcc", env, {**settings, **s.settings})
        value, _, _ = value_of_constraints(processes, np.array(found["constraints"]), env.config)
        arms[name] = {"value": value, "cost": found["cost"]}
    arms["iql"] = {"cost": learn("independent_q", env, {k: v for k, v in s.settings.items() if k == "steps"})["cost"]}
    together = joint_optimum(env) if num_devices == 2 else None
    best_cost = evaluate_jointly(env, best.policies).discounted
    return {"arms": arms, "best": {"value": best.value, "cost": best_cost}, "joint_optimum": together}
