"""DCC on its three time scales against linear programs: local solutions, gradients, coordination, faults, restoring."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.optimize

from rllib_wireless.algorithms.dcc.broadcast import Broadcast
from rllib_wireless.algorithms.dcc.dcc import DCC, DCCConfig
from rllib_wireless.algorithms.dcc.gradients import draw_differences
from rllib_wireless.algorithms.dcc.local_problems import LinearPrograms, QLearning
from rllib_wireless.algorithms.dcc.settings import DCCSettings
from rllib_wireless.algorithms.training import resume_run, train
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.envs import make_env
from rllib_wireless.envs.task_offloading import TaskOffloading
from rllib_wireless.envs.task_offloading.cmdp import device_cmdp, evaluate_policy, solve
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.policies import evaluate, load_policy

SMALL: dict[str, Any] = {"max_age": 6, "battery_capacity": 5, "num_devices": 3}
FAST: dict[str, Any] = {"steps": 20_000, "rollouts": 50}


def build(env: dict[str, Any] | None = None, **settings: Any) -> DCC:
    config = DCCConfig().environment("task_offloading", env_config={**SMALL, **(env or {})}).training(**settings)
    algo = config.build_algo()
    assert isinstance(algo, DCC)
    return algo


def devices_of(**config: Any) -> TaskOffloading:
    env = make_env("task_offloading", **{**SMALL, **config})
    assert isinstance(env, TaskOffloading)
    return env


def train_for(algo: DCC, iterations: int) -> list[dict[str, Any]]:
    return [algo.train()["learners"]["devices"] for _ in range(iterations)]


# ------------------------------------------------------------------------------------------------ fast and intermediate


@pytest.mark.parametrize(("limit", "price"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.4, 0.0), (0.9, 2.0)])
def test_q_learning_is_within_2_percent_of_the_linear_program(limit: float, price: float) -> None:
    """The paper's size of a device and its budget of 1e5 steps a solution, after three of them; the mean of 3 devices."""
    env = make_env("task_offloading", num_devices=3)
    assert isinstance(env, TaskOffloading)
    problems = QLearning(env.devices, DCCSettings(), env.gamma, seed=0)
    agents, memory = np.arange(3), problems.empty_memory()
    for number in range(3):
        answers = problems.solve(agents, np.full(3, limit), np.full(3, price), np.full(3, number), memory)
        memory = answers.memory
    ratios = []
    for i in range(3):
        mdp = device_cmdp(env.devices, i, env.gamma)
        exact = evaluate_policy(mdp, answers.policies[i], price)
        ratios.append(exact.value / solve(mdp, limit, price).value)
        # 200 episodes estimate a frequency to about .005.
        assert exact.usage <= limit + 0.015
        assert answers.usages[i] <= limit + 1e-9
        assert answers.values[i] == pytest.approx(exact.value, rel=0.05)
    assert np.mean(ratios) < 1.02


def test_what_a_device_learns_does_not_depend_on_who_learns_beside_it() -> None:
    """Six learn in two groups."""
    env = devices_of(num_devices=6)
    problems = QLearning(env.devices, DCCSettings(**FAST), env.gamma, seed=5)
    memory, numbers = problems.empty_memory(), np.zeros(6, np.int64)
    limits, prices = np.array([0.1, 0.2, 0.0, 0.1, 0.3, 0.05]), np.array([0.5, 0.3, 0.1, 0.5, 0.0, 0.7])
    together = problems.solve(np.arange(6), limits, prices, numbers, memory)
    for i in range(6):
        one = slice(i, i + 1)
        own = {name: array[one] for name, array in memory.items()}
        alone = problems.solve(np.array([i]), limits[one], prices[one], numbers[one], own)
        np.testing.assert_array_equal(alone.policies[0], together.policies[i])
        assert alone.values[0] == together.values[i] and alone.multipliers[0] == together.multipliers[i]


def test_a_randomised_policy_meets_the_constraint_with_equality_and_a_greedy_one_stays_below() -> None:
    env = devices_of()
    limits, prices, numbers = np.full(3, 0.15), np.zeros(3), np.zeros(3, np.int64)
    mixed, greedy = (
        QLearning(env.devices, DCCSettings(**FAST, randomize=randomize), env.gamma, seed=0).solve(
            np.arange(3), limits, prices, numbers, QLearning(env.devices, DCCSettings(), env.gamma, 0).empty_memory()
        )
        for randomize in (True, False)
    )
    np.testing.assert_allclose(mixed.usages, limits)
    assert ((mixed.policies > 0).sum(-1) > 1).any(axis=1).all()
    assert (greedy.usages <= limits).all() and ((greedy.policies > 0).sum(-1) == 1).all()
    assert (mixed.values <= greedy.values + 1e-9).all()


def test_data_of_all_transitions_fit_what_the_linear_program_knows(tmp_path: Path) -> None:
    config = {**SMALL, "start": "uniform"}
    collect("task_offloading", config, [Behaviour("random")], 60_000, tmp_path / "data", num_envs=50)
    fitted = DCCConfig().environment("task_offloading", env_config=config).offline_data(input_=tmp_path / "data")
    algo = fitted.training(fast_timescale="fitted", gradient="lambda_substitution", initial_constraint=0.1).build_algo()
    found = train_for(algo, 1)[0]
    exact = train_for(build(config, fast_timescale="exact", initial_constraint=0.1), 1)[0]
    # 60,000 rows over 176 pairs leave about 1 % in a transition.
    assert found["value"] == pytest.approx(exact["value"], rel=0.03)
    env = devices_of(start="uniform")
    policy = algo.policy()
    assert policy is not None
    true = sum(evaluate_policy(device_cmdp(env.devices, i, 0.95), p, 0.2).value for i, p in enumerate(policy.table))
    assert true == pytest.approx(exact["value"], rel=0.02)


# ------------------------------------------------------------------------------------------------ slow


def total(limits: npt.NDArray[np.float64], env: TaskOffloading) -> float:
    """F(K) by linear programs."""
    return sum(solve(device_cmdp(env.devices, i, 0.95), k, limits.sum() - k).value for i, k in enumerate(limits))


def test_both_gradients_are_those_of_the_sum_of_values() -> None:
    """Substitution to three digits of a central difference of F itself; finite differences of size .001 nearly so."""
    env, limits, h = devices_of(), np.array([0.12, 0.23, 0.31]), 1e-5
    expected = [(total(limits + step, env) - total(limits - step, env)) / (2 * h) for step in h * np.eye(3)]
    for gradient, tolerance in (("lambda_substitution", 1e-3), ("finite_differences", 0.05)):
        algo = build(
            fast_timescale="exact", gradient=gradient, initial_constraint=tuple(limits), perturbation_size=1e-3
        )
        algo.train()
        assert algo.answers is not None
        local, coupling = algo._gradient(algo.answers, np.arange(3))
        np.testing.assert_allclose(local + coupling.sum() - coupling, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("learner", [{"fast_timescale": "exact"}, {"fast_timescale": "q_learning", **FAST}])
@pytest.mark.parametrize("gradient", ["lambda_substitution", "finite_differences"])
def test_five_updates_come_within_5_percent_of_the_best_constraints(learner: dict[str, Any], gradient: str) -> None:
    env = devices_of()
    minimize: Any = scipy.optimize.minimize
    best = minimize(
        lambda k: total(np.clip(k, 0, 1), env), np.full(3, 0.3), method="Nelder-Mead", options={"xatol": 1e-3}
    )
    algo = build(**learner, gradient=gradient)
    rows = train_for(algo, 6)
    assert algo.finished and rows[0]["constraint"] == 0.0
    assert total(algo.constraints.own, env) < 1.05 * best.fun
    assert rows[-1]["value"] < 0.7 * rows[0]["value"]


def test_differences_have_mean_zero_and_the_size_of_their_law() -> None:
    for law in ("rademacher", "gaussian"):
        own, coupled = draw_differences(DCCSettings(perturbation=law), 0, 0, 20_000)
        assert abs(coupled.mean()) < 0.002 and coupled.std() == pytest.approx(0.05, rel=0.02)
        assert own.std() == pytest.approx(0.05 * 10 / 20_000, rel=0.02)  # beyond ten devices
        assert abs(np.corrcoef(own, coupled)[0, 1]) < 0.03
    later, _ = draw_differences(DCCSettings(), 0, 7, 10)
    assert np.abs(later).max() == pytest.approx(0.05 / 8**0.17)


def test_the_power_step_is_the_rule_of_the_paper_over_the_largest_derivative() -> None:
    algo = build(fast_timescale="exact", constraint_step="power", constraint_lr=0.1, initial_constraint=0.2)
    algo.train()
    moved = algo._step(np.arange(3), np.array([-4.0, 2.0, 1.0]))
    np.testing.assert_allclose(moved, [0.3, 0.15, 0.175])


# ------------------------------------------------------------------------------------------------ broadcasts and faults


def test_without_delay_and_loss_everybody_knows_everything_at_once() -> None:
    broadcast = Broadcast(np.array([0.1, 0.2, 0.3]), 0, 0.0, (0, 0))
    np.testing.assert_allclose(broadcast.sum_of_others(), [0.5, 0.4, 0.3])
    broadcast.send(np.array([0.7]), np.array([1]), 0)
    np.testing.assert_allclose(broadcast.sum_of_others(), [1.0, 0.4, 0.8])


def test_late_messages_arrive_within_the_delay_and_never_replace_newer_ones() -> None:
    n = 40
    broadcast = Broadcast(np.zeros(n), 3, 0.0, (1, 0))
    for k in range(1, 6):
        broadcast.send(np.full(n, float(k)), np.arange(n), k)
        known = broadcast.sum_of_others() / (n - 1)
        assert (known <= k).all() and (known >= k - 3).all()
    assert (known < 5).any()
    for k in range(6, 9):
        broadcast.deliver(k)
    np.testing.assert_allclose(broadcast.sum_of_others(), 5.0 * (n - 1))


def test_lost_messages_leave_what_was_known() -> None:
    broadcast = Broadcast(np.zeros(100), 0, 0.3, (2, 0))
    broadcast.send(np.ones(100), np.arange(100), 0)
    known = broadcast.sum_of_others() / 99
    assert known.mean() == pytest.approx(0.7, abs=0.02)  # 9,900 messages
    assert (broadcast.own == 1.0).all()


def test_late_and_lost_broadcasts_and_absent_devices_still_lead_to_good_constraints() -> None:
    env = devices_of()
    algo = build(
        fast_timescale="exact", gradient="lambda_substitution", constraint_updates=25, participation=0.6,
        broadcast_delay=2, broadcast_loss=0.3,
    )  # fmt: skip
    rows = train_for(algo, 26)
    punctual = build(fast_timescale="exact", gradient="lambda_substitution", constraint_updates=11)
    train_for(punctual, 12)
    assert total(algo.constraints.own, env) < 1.05 * total(punctual.constraints.own, env)
    silent = [
        a != b for r, s in itertools.pairwise(rows) for a, b in zip(r["constraints"], s["constraints"], strict=True)
    ]
    assert 0.3 < np.mean(silent) < 0.9  # in each iteration some do not move


@pytest.mark.usefixtures("ray_session")
def test_devices_on_actors_give_the_same_and_a_dead_actor_does_not_stop_coordination() -> None:
    import ray

    def run(num_actors: int, kill: bool = False) -> tuple[list[dict[str, Any]], npt.NDArray[np.float32]]:
        algo = build(**FAST, num_device_actors=num_actors)
        rows = train_for(algo, 1)
        if kill:
            ray.kill(algo.problems.pool._manager.actors()[0], no_restart=False)  # type: ignore[attr-defined]
        rows += train_for(algo, 1)
        policy = algo.policy()
        assert policy is not None
        algo.stop()
        return rows, policy.table

    expected_rows, expected = run(0)
    for num_actors, kill in ((1, False), (2, False), (2, True)):
        rows, table = run(num_actors, kill)
        assert rows == expected_rows
        np.testing.assert_array_equal(table, expected)


# ------------------------------------------------------------------------------------------------ as an algorithm


def test_a_run_that_was_cut_goes_on_bit_for_bit_and_its_policy_is_portable(tmp_path: Path) -> None:
    settings = {**FAST, "broadcast_delay": 1, "broadcast_loss": 0.2, "constraint_updates": 3}
    whole = train("dcc", "task_offloading", out=tmp_path / "whole", env_config=SMALL, settings=settings)
    train("dcc", "task_offloading", out=tmp_path / "cut", env_config=SMALL, settings=settings, iterations=2)
    assert resume_run(tmp_path / "cut") == whole
    policies = [load_policy(tmp_path / name) for name in ("whole", "cut")]
    a, b = (policy.to_portable()[1]["table"] for policy in policies)
    np.testing.assert_array_equal(a, b)
    measured = evaluate(tmp_path / "cut", "task_offloading", SMALL, episodes=640).metrics()
    never = evaluate("never_offload", "task_offloading", SMALL, episodes=640).metrics()
    assert measured["discounted_cost"]["mean"] < never["discounted_cost"]["mean"]
    assert measured["offload_frequency"]["mean"] > 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"initial_constraint": (0.1, 0.2)}, "it should be one number or 3"),
        ({"criterion": "average"}, "Q-learning is discounted"),
        ({"fast_timescale": "fitted"}, "data are needed for fitted"),
        ({"gradient": "backpropagation"}, "it should be 'finite_differences' or 'lambda_substitution'"),
        ({"broadcast_loss": 1.0}, "broadcast_loss"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**settings)


def test_another_environment_is_refused() -> None:
    with pytest.raises(UserError, match="it should be task_offloading"):
        DCCConfig().environment("channel_access").validate()


def test_the_average_criterion_has_long_run_frequencies() -> None:
    algo = build(fast_timescale="exact", criterion="average", initial_constraint=0.1, gradient="lambda_substitution")
    row = train_for(algo, 1)[0]
    assert row["offload_frequency"] == pytest.approx(0.1, abs=1e-6)
    policy = algo.policy()
    assert policy is not None
    measured = evaluate(policy, "task_offloading", {**SMALL, "episode_slots": None}, num_envs=32, steps=4000)
    assert measured.metrics()["offload_frequency"]["mean"] == pytest.approx(0.1, abs=0.01)


def test_a_program_is_solved_for_the_devices_that_are_asked_for() -> None:
    env = devices_of()
    problems = LinearPrograms([device_cmdp(env.devices, i, 0.95) for i in range(3)])
    answers = problems.solve(np.array([2]), np.array([0.1]), np.array([0.4]), np.array([0]), {})
    assert answers.values[0] == solve(device_cmdp(env.devices, 2, 0.95), 0.1, 0.4).value
