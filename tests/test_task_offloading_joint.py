"""All devices together: exact costs against simulation, constraints and the joint optimum against other solvers."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import scipy.optimize

from rllib_wireless.algorithms.dcc.dcc import DCC, DCCConfig
from rllib_wireless.algorithms.dcc.overlap import offload_profiles, overlaps
from rllib_wireless.envs import make_env
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.cmdp import device_cmdp, solve
from rllib_wireless.envs.task_offloading.device import observation_grid, outcomes
from rllib_wireless.envs.task_offloading.joint import (
    best_constraints,
    evaluate_jointly,
    expected_congestion,
    joint_optimum,
    value_of_constraints,
)
from rllib_wireless.envs.task_offloading.rules import ThresholdConfig, best_threshold, threshold_table
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.policies import TablePolicy, evaluate

SMALL: dict[str, Any] = {"max_age": 6, "battery_capacity": 5, "num_devices": 3}


def small(**config: Any) -> TaskOffloading:
    env = make_env("task_offloading", **{**SMALL, **config})
    assert isinstance(env, TaskOffloading)
    return env


def some_policies(env: TaskOffloading, seed: int = 0) -> Any:
    """Random legal ones; their tables are float32, so these are, too."""
    weights = np.random.default_rng(seed).random((len(env.agents), env.devices.num_states, 3))
    weights *= device_cmdp(env.devices, 0, 0.9).legal
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    "config", [{}, {"penalty_exponent": 2.0}, {"energy_model": "delay"}, {"start": "uniform"}], ids=str
)
def test_exact_costs_are_those_of_the_simulator(config: dict[str, Any]) -> None:
    env = small(**config)
    policies = some_policies(env)
    exact = evaluate_jointly(env, policies)
    policy = TablePolicy(policies, observation_grid(env.devices), env.agents)
    measured = evaluate(policy, "task_offloading", {**SMALL, **config}, num_envs=200, episodes=8000).metrics()
    for name, value in (("discounted_cost", exact.discounted), ("offload_frequency", exact.offload_frequency)):
        low, high = measured[name]["ci95"]
        assert abs(measured[name]["mean"] - value) < 2.0 * (high - low) / 2.0 + 1e-9, name


def test_expected_congestion_is_the_sum_over_all_who_may_offload() -> None:
    frequencies, penalty = np.array([0.2, 0.5, 0.9]), np.array([0.0, 0.0, 1.0, 4.0])
    expected = 0.0
    for who in itertools.product((0, 1), repeat=3):
        chance = np.prod([p if w else 1 - p for p, w in zip(frequencies, who, strict=True)])
        expected += chance * sum(who) * penalty[sum(who)]
    assert expected_congestion(frequencies, penalty) == pytest.approx(expected)


def test_an_endless_environment_needs_a_number_of_slots() -> None:
    env = small(episode_slots=None)
    with pytest.raises(UserError, match="say over how many slots"):
        evaluate_jointly(env, some_policies(env))
    assert evaluate_jointly(env, some_policies(env), 40).local.shape == (40,)


def test_outcomes_are_drawn_as_likely_as_they_are() -> None:
    table = outcomes(small().devices, 1)
    columns = len(table.keep)
    drawn = np.zeros(columns)
    for column in range(columns):
        drawn[table.parts[column, 0]] += min(table.keep[column], 1.0) / columns
        drawn[table.parts[column, 1]] += max(1.0 - table.keep[column], 0.0) / columns
    np.testing.assert_allclose(drawn, table.chance, atol=1e-12)
    assert table.chance.sum() == pytest.approx(1.0)


# ------------------------------------------------------------------------------------------------ references


def test_the_rule_and_its_table_are_one() -> None:
    env = small()
    table = np.broadcast_to(
        threshold_table(env.devices, ThresholdConfig(offload_age=3)), (3, env.devices.num_states, 3)
    )
    exact = evaluate_jointly(env, table).discounted
    measured = evaluate(
        "threshold", "task_offloading", SMALL, params={"offload_age": 3}, num_envs=200, episodes=4000
    ).metrics()["discounted_cost"]
    assert abs(measured["mean"] - exact) < measured["ci95"][1] - measured["ci95"][0]


def test_no_threshold_beats_the_best_by_much() -> None:
    """The search moves one threshold at a time; all of them together are tried here."""
    env = small()
    rule, cost = best_threshold(env)
    every = [
        evaluate_jointly(
            env, np.broadcast_to(threshold_table(env.devices, config), (3, env.devices.num_states, 3))
        ).discounted
        for x, e, a in itertools.product(range(1, 7), range(6), range(1, 8))
        if (config := ThresholdConfig(process_age=x, process_battery=e, offload_age=a))
    ]
    assert cost <= min(every) * 1.02 and cost >= min(every) - 1e-12
    assert ThresholdConfig() != rule and cost < every[0]


def test_the_best_constraints_are_those_of_a_search_without_gradients() -> None:
    env = small()
    processes = [device_cmdp(env.devices, i, env.gamma) for i in range(3)]
    minimize: Any = scipy.optimize.minimize
    other = minimize(
        lambda k: value_of_constraints(processes, np.clip(k, 0.0, 1.0), env.config)[0],
        np.full(3, 0.3),
        method="Nelder-Mead",
        options={"xatol": 1e-3},
    )
    best = best_constraints(env)
    assert best.value <= other.fun + 1e-3
    h = 1e-5
    value, gradient, _ = value_of_constraints(processes, np.array([0.1, 0.2, 0.3]), env.config)
    more, _, _ = value_of_constraints(processes, np.array([0.1 + h, 0.2, 0.3]), env.config)
    assert gradient[0] == pytest.approx((more - value) / h, rel=1e-3)


def test_the_joint_optimum_without_congestion_is_two_times_one() -> None:
    free = small(num_devices=2, penalty_scale=1e-12)
    alone = sum(solve(device_cmdp(free.devices, i, free.gamma), 1.0).value for i in range(2))
    assert joint_optimum(free) == pytest.approx(alone, abs=1e-3)


def test_the_joint_optimum_is_that_of_one_large_linear_program() -> None:
    env = small(num_devices=2, max_age=3, battery_capacity=2, processing_energy=(1,))
    mdps = [device_cmdp(env.devices, i, env.gamma) for i in range(2)]
    pairs = list(itertools.product(range(len(mdps[0].state)), range(len(mdps[1].state))))
    n = env.devices.num_states
    cost, equations = np.zeros(len(pairs)), np.zeros((n * n, len(pairs)))
    moves = [mdp.transitions.toarray() for mdp in mdps]
    for column, (a, b) in enumerate(pairs):
        offloading = int(mdps[0].usage[a] + mdps[1].usage[b])
        cost[column] = mdps[0].cost[a] + mdps[1].cost[b] + offloading * env.penalty[offloading]
        equations[mdps[0].state[a] * n + mdps[1].state[b], column] += 1.0
        equations[:, column] -= env.gamma * np.outer(moves[0][a], moves[1][b]).ravel()
    start = (1.0 - env.gamma) * np.outer(mdps[0].start, mdps[1].start).ravel()
    linprog: Any = scipy.optimize.linprog
    assert joint_optimum(env) == pytest.approx(linprog(cost, A_eq=equations, b_eq=start).fun, abs=2e-4)
    with pytest.raises(UserError, match="computed for 2"):
        joint_optimum(small())


# ------------------------------------------------------------------------------------------------ overlap


def test_overlap_makes_the_expected_congestion_the_true_one() -> None:
    env = small()
    policies = np.stack([solve(device_cmdp(env.devices, i, env.gamma), 0.2).policy for i in range(3)])
    exact = evaluate_jointly(env, policies)
    usages = exact.usages
    ratios = overlaps(exact.offloading.T, env.gamma)
    expected = usages @ (ratios * (usages.sum() - usages))
    assert expected == pytest.approx(exact.weights @ exact.congestion)
    assert abs(usages @ (usages.sum() - usages) / expected - 1.0) > 0.05  # without it, it is not
    profiles = offload_profiles(env.devices, policies, 4000, 135, 0)
    np.testing.assert_allclose(profiles, exact.offloading.T, atol=0.04)  # 4000 episodes: a deviation of .008


def test_overlap_is_one_where_all_offload_alike_or_nobody_does() -> None:
    np.testing.assert_allclose(overlaps(np.tile([[0.1], [0.3]], 50), 0.95), 1.0)
    np.testing.assert_allclose(overlaps(np.zeros((3, 50)), 0.95), 1.0)
    # Two who take turns never meet, two who move as one meet twice as often.
    turns = np.array([np.arange(400) % 2, np.arange(400) % 2 == 0], np.float64)
    np.testing.assert_allclose(overlaps(turns, 0.999), 0.0)
    np.testing.assert_allclose(overlaps(turns[[0, 0]], 0.999), 2.0, rtol=0.01)


def coordinated(congestion: str, **settings: Any) -> DCC:
    config = DCCConfig().environment("task_offloading", env_config={**SMALL, "num_devices": 6, "start": "full"})
    config.training(fast_timescale="exact", gradient="lambda_substitution", congestion=congestion, **settings)
    algo = config.build_algo()
    assert isinstance(algo, DCC)
    return algo


def test_devices_that_begin_alike_expect_and_reach_the_true_cost_by_overlap() -> None:
    found = {}
    for congestion in ("constraint", "overlap"):
        algo = coordinated(congestion, constraint_updates=10, constraint_step="power")
        while not algo.finished:
            told = algo.train()["learners"]["devices"]
        env, policy = algo.config.build_env(), algo.policy()
        assert isinstance(env, TaskOffloading) and policy is not None
        found[congestion] = (evaluate_jointly(env, policy.table).discounted, told["value"])
    (naive, naive_expects), (cost, expects) = found["constraint"], found["overlap"]
    assert cost < naive
    assert abs(cost - expects) < 0.5 * abs(naive - naive_expects)


def test_both_gradients_agree_under_overlap() -> None:
    derivatives = []
    for gradient in ("lambda_substitution", "finite_differences"):
        algo = coordinated("overlap", initial_constraint=0.15, perturbation_size=1e-3)
        algo.train()
        algo.settings = dataclasses.replace(algo.settings, gradient=gradient)
        assert algo.answers is not None and algo._overlap.min() > 1.05
        # The solutions as they are with the overlap that they have been measured to have.
        algo.answers = algo._solve(np.arange(6))
        derivatives.append(algo._gradient(algo.answers, np.arange(6)))
    for one, other in zip(*derivatives, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.05, atol=0.02)


def test_overlap_needs_rollouts_from_a_start_law() -> None:
    with pytest.raises(ConfigError, match="neither average nor fitted"):
        coordinated("overlap", criterion="average")
    with pytest.raises(ConfigError, match="differences need lambda_substitution"):
        DCCConfig().environment("task_offloading").training(congestion="overlap").validate()
