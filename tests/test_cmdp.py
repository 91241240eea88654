"""Constrained processes: matrices against enumeration, linear programs against differences, policy iteration and simulation."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse

from rllib_wireless.envs import make_env
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.cmdp import (
    ConstrainedMDP,
    assumption_1,
    device_cmdp,
    evaluate_policy,
    solve,
    start_law,
)
from rllib_wireless.errors import UserError

Floats = npt.NDArray[np.float64]


def random_mdp(seed: int, gamma: float = 0.9, states: int = 8, actions: int = 3) -> ConstrainedMDP:
    """A random process in which the last action uses the resource, and some others are illegal."""
    generator = np.random.default_rng(seed)
    legal = generator.random((states, actions)) < 0.8
    legal[:, [0, -1]] = True
    state, action = np.nonzero(legal)
    return ConstrainedMDP(
        state=state,
        action=action,
        num_actions=actions,
        transitions=scipy.sparse.csr_array(generator.dirichlet(np.full(states, 0.3), len(state))),
        cost=generator.random(len(state)) + (action != actions - 1),
        usage=(action == actions - 1) * 1.0,
        start=generator.dirichlet(np.ones(states)),
        gamma=gamma,
    )


def device(**config: Any) -> tuple[TaskOffloading, ConstrainedMDP]:
    env = make_env("task_offloading", num_devices=1, **config)
    assert isinstance(env, TaskOffloading)
    return env, device_cmdp(env.devices, 0, env.gamma)


SMALL: dict[str, Any] = {"max_age": 5, "battery_capacity": 4}


@pytest.mark.parametrize("model", ["debt", "delay"])
def test_matrices_are_those_of_an_enumeration_by_hand(model: str) -> None:
    env, mdp = device(energy_model=model, environment_seed=3, **SMALL)
    lowest = -3 if model == "debt" else 0
    states = [(x, e) for x in range(1, 6) for e in range(lowest, 5)]
    p, q, beta = env.devices.harvest[0], env.devices.energy_probability[0], env.devices.battery_penalty[0]
    row = 0
    for s, (x, e) in enumerate(states):
        for action in range(3):
            if action == 1 and e < 0:
                continue
            expected, cost = np.zeros(len(states)), 0.0
            for (h, ph), (c, pc) in itertools.product(((0, 1 - p), (1, p)), zip((1, 2, 3), q, strict=True)):
                level = e + h - (c if action == 1 else 0)
                age = 1 if action else min(x + 1, 5)
                debt = max(-e, 0) if model == "debt" else max(-level, 0)
                expected[states.index((age, min(4, max(level, lowest))))] += ph * pc
                cost += ph * pc * (age + beta * debt)
            assert (mdp.state[row], mdp.action[row], mdp.usage[row]) == (s, action, action == 2)
            np.testing.assert_allclose(mdp.transitions.toarray()[row], expected, atol=1e-12)
            assert mdp.cost[row] == pytest.approx(cost)
            row += 1
    assert row == len(mdp.state)
    np.testing.assert_allclose(mdp.start, [(x == 1 and e >= 0) / 5 for x, e in states])


def test_the_papers_size_is_285_states_and_810_legal_pairs() -> None:
    env, mdp = device()
    assert mdp.transitions.shape == (810, 285)
    assert start_law(env.devices).sum() == pytest.approx(1.0)
    assert mdp.legal.sum() == 810


# ------------------------------------------------------------------------------------------------ exact solutions


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_the_policy_of_the_program_costs_what_it_says(seed: int, gamma: float) -> None:
    mdp = random_mdp(seed, gamma)
    for limit in (0.0, 0.07, 0.3, 0.9):
        solution = solve(mdp, limit, price=0.2)
        assert solution.usage <= limit + 1e-9
        np.testing.assert_allclose(solution.policy.sum(1), 1.0)
        assert not solution.policy[~mdp.legal].any()
        again = evaluate_policy(mdp, solution.policy, price=0.2)
        assert again.value == pytest.approx(solution.value, abs=1e-8)
        np.testing.assert_allclose(again.occupation, solution.occupation, atol=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_unconstrained_it_is_policy_iteration(seed: int) -> None:
    mdp = random_mdp(seed)
    value, usage = lagrangian(mdp, 0.0)
    assert solve(mdp, 1.0).value == pytest.approx(value, abs=1e-9)
    assert solve(mdp, 1.0).multiplier == pytest.approx(0.0, abs=1e-9)
    value, usage = lagrangian(mdp, 0.3)
    assert solve(mdp, 1.0, price=0.3).value == pytest.approx(value + 0.3 * usage, abs=1e-9)


@pytest.mark.parametrize("gamma", [0.9, 1.0])
@pytest.mark.parametrize("seed", range(8))
def test_the_value_falls_with_the_limit_by_the_multiplier(seed: int, gamma: float) -> None:
    """Minus the right derivative, to three digits, at random limits and at those where V has a kink."""
    mdp, h = random_mdp(seed, gamma), 1e-6
    kinks = [solve(mdp, 1.0, price=price).usage for price in (0.3, 0.8)]
    for limit in (0.05, 0.21, 0.44, *kinks):
        here = solve(mdp, limit)
        slope = (here.value - solve(mdp, limit + h).value) / h
        assert here.multiplier == pytest.approx(slope, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_without_slater_the_multiplier_is_the_smallest_the_right_derivative(seed: int) -> None:
    mdp = random_mdp(seed)
    at_zero = solve(mdp, 0.0)
    assert at_zero.usage == 0.0
    assert at_zero.multiplier == pytest.approx(smallest_multiplier_at_zero(mdp), rel=1e-6)
    h = 1e-7
    assert at_zero.multiplier == pytest.approx((at_zero.value - solve(mdp, h).value) / h, rel=1e-3)


def test_a_device_without_slater_has_the_smallest_multiplier_too() -> None:
    _, mdp = device(**SMALL)
    assert solve(mdp, 0.0).multiplier == pytest.approx(smallest_multiplier_at_zero(mdp), rel=1e-4)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_coupling_derivative_is_that_of_proposition_3(seed: int, alpha: float) -> None:
    """dV_i / dK_-i = f'(1 + K_-i) C_i with f(n) = (n - 1)^alpha."""
    _, mdp = device(environment_seed=seed, **SMALL)
    others, limit, h = 0.7, 0.12, 1e-6
    solution = solve(mdp, limit, price=others**alpha)
    higher, lower = (solve(mdp, limit, price=(others + d) ** alpha).value for d in (h, -h))
    assert (higher - lower) / (2 * h) == pytest.approx(alpha * others ** (alpha - 1) * solution.usage, rel=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_derivatives_of_devices_are_multipliers(seed: int) -> None:
    _, mdp = device(environment_seed=seed)
    for limit in (0.03, 0.17):
        h = 1e-6
        slope = (solve(mdp, limit).value - solve(mdp, limit + h).value) / h
        assert solve(mdp, limit).multiplier == pytest.approx(slope, rel=1e-3)


def test_where_no_policy_keeps_the_constraint_it_says_so() -> None:
    mdp = random_mdp(0)
    forced = mdp.action == mdp.num_actions - 1
    only = ConstrainedMDP(
        mdp.state[forced], mdp.action[forced], 3, mdp.transitions[forced], mdp.cost[forced], mdp.usage[forced],
        mdp.start, mdp.gamma,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"below K = 0\.5"):
        solve(only, 0.5)


def test_assumption_1_fails_where_offloading_costs_more() -> None:
    _, mdp = device(**SMALL)
    assert assumption_1(mdp) == 0.0  # processing leaves the same age, and energy is not paid for in its slot
    dear = mdp.cost + 0.5 * mdp.usage
    worse = ConstrainedMDP(mdp.state, mdp.action, 3, mdp.transitions, dear, mdp.usage, mdp.start, mdp.gamma)
    assert assumption_1(worse) == pytest.approx(-0.5)


# ------------------------------------------------------------------------------------------------ independent solvers


def lagrangian(mdp: ConstrainedMDP, multiplier: float) -> tuple[float, float]:
    """Value and usage of a policy that minimises V + multiplier * C, by policy iteration on dense matrices."""
    table = np.full((len(mdp.start), mdp.num_actions), -1)
    table[mdp.state, mdp.action] = np.arange(len(mdp.state))
    cost, transitions = mdp.cost + multiplier * mdp.usage, mdp.transitions.toarray()
    pairs = np.array([row[row >= 0][0] for row in table])
    identity = np.eye(len(mdp.start))
    while True:
        values = np.linalg.solve(identity - mdp.gamma * transitions[pairs], cost[pairs])
        q = cost + mdp.gamma * transitions @ values
        better = np.array([row[row >= 0][q[row[row >= 0]].argmin()] for row in table])
        better = np.where(q[better] < q[pairs] - 1e-11, better, pairs)
        if (better == pairs).all():
            break
        pairs = better
    visits = np.linalg.solve(identity - mdp.gamma * transitions[pairs].T, (1 - mdp.gamma) * mdp.start)
    return float(visits @ mdp.cost[pairs]), float(visits @ mdp.usage[pairs])


def smallest_multiplier_at_zero(mdp: ConstrainedMDP) -> float:
    """Largest saving per usage of any policy, by Dinkelbach's iteration from below."""
    without, _ = lagrangian(mdp, 1e9)
    multiplier = 0.0
    while True:
        value, usage = lagrangian(mdp, multiplier)
        if usage == 0.0 or (without - value) / usage <= multiplier * (1 + 1e-9):
            return multiplier
        multiplier = (without - value) / usage
