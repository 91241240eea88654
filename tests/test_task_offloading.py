"""Task offloading: transitions, costs, energy models, drawn devices, rules and metrics against plain Python and queueing facts."""

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest

from rllib_wireless.envs import make_env, make_policy
from rllib_wireless.envs.registry import env_spec
from rllib_wireless.envs.task_offloading import TaskOffloading, TaskOffloadingConfig
from rllib_wireless.envs.task_offloading.cmdp import device_cmdp, evaluate_policy
from rllib_wireless.envs.task_offloading.device import congestion
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.policies import evaluate
from rllib_wireless.testing import check_env, check_policy

WAIT, PROCESS, OFFLOAD = range(3)
SHORT: dict[str, Any] = {"num_devices": 4, "episode_slots": 37}
CONFIGS: list[dict[str, Any]] = [
    {},
    {"energy_model": "delay", "start": "uniform"},
    {"start": "full", "age_cost": "current", "penalty_exponent": 2.0},
    {"num_devices": 1, "episode_slots": 5},
]


def build(num_envs: int = 1, **config: Any) -> TaskOffloading:
    env = make_env("task_offloading", num_envs, **config)
    assert isinstance(env, TaskOffloading)
    return env


@pytest.mark.parametrize("config", CONFIGS)
def test_it_keeps_the_promises_of_an_environment(config: dict[str, Any]) -> None:
    notes = check_env(partial(make_env, "task_offloading", **{**SHORT, **config}))
    expected = ["no agent was idle and no action masked within 300 steps"] if "energy_model" in config else []
    assert notes == expected


@pytest.mark.parametrize("rule", sorted(env_spec("task_offloading").rules))
def test_its_rules_keep_the_promises_of_a_policy(rule: str) -> None:
    check_policy(partial(make_policy, rule), partial(make_env, "task_offloading", **SHORT))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_slot_is_one_that_plain_python_allows(config: dict[str, Any]) -> None:
    """Ages, batteries and costs of random actions, written out by hand from appendix B."""
    settings = TaskOffloadingConfig(**{**SHORT, **config, "episode_slots": None})
    env = build(8, **{**SHORT, **config, "episode_slots": None})
    env.reset(seed=4)
    generator = np.random.default_rng(0)
    m, capacity, exponent = 15, 15, settings.penalty_exponent
    seen: Counter[int] = Counter()
    for _ in range(300):
        before = np.rint(env.local_state() * 15).astype(int)
        mask = before[..., 1] >= 0
        actions = generator.integers(0, 3, before.shape[:2])
        actions[(actions == PROCESS) & ~mask] = WAIT
        step = env.step(actions)
        after = np.rint(env.local_state() * 15).astype(int)
        for b, i in np.ndindex(actions.shape):
            (x, e), action = before[b, i], actions[b, i]
            n = int((actions[b] == OFFLOAD).sum())
            next_age = min(x + 1, m) if action == WAIT else 1
            levels = [e + h - (c if action == PROCESS else 0) for h in (0, 1) for c in (1, 2, 3)]
            penalty = env.devices.battery_penalty[i]
            cost = next_age if settings.age_cost == "next" else x
            cost += (n - 1) ** exponent if action == OFFLOAD else 0.0
            if settings.energy_model == "debt":
                outcomes = {(min(capacity, level), cost + penalty * max(0, -e)) for level in levels}
            else:
                outcomes = {(min(capacity, max(0, level)), cost + penalty * max(0, -level)) for level in levels}
            assert after[b, i, 0] == next_age
            assert any(
                after[b, i, 1] == level and -step.reward[b, i] == pytest.approx(c, rel=1e-6) for level, c in outcomes
            )
            assert step.cost[b, i] == (action == OFFLOAD)
            seen[int(after[b, i, 1])] += 1
    assert (min(seen) < 0) == (settings.energy_model == "debt")


def test_harvest_and_processing_energies_have_their_devices_laws() -> None:
    env = build(4000, num_devices=3, start="full", processing_energy=(2, 3, 4), battery_capacity=100)
    env.reset(seed=1)
    processed = np.tile([PROCESS], (4000, 3))
    env.step(processed)
    spent = 100 - np.rint(env.local_state()[..., 1] * 100)
    env.reset(seed=2)
    env.step(processed)
    env.step(np.zeros((4000, 3), np.int64))
    waited = np.rint(env.local_state()[..., 1] * 100)
    env.reset(seed=2)
    env.step(processed)
    harvested = (waited - np.rint(env.local_state()[..., 1] * 100)).mean(0)
    np.testing.assert_allclose(harvested, env.devices.harvest, atol=0.03)  # standard error .008
    mean_energy = env.devices.energy_probability @ env.devices.energies
    np.testing.assert_allclose(spent.mean(0), mean_energy - env.devices.harvest, atol=0.06)  # standard error .015


def test_devices_are_drawn_in_their_intervals_by_the_environment_seed_alone() -> None:
    devices = build(num_devices=200).devices
    assert (devices.harvest >= 0.4).all() and (devices.harvest <= 0.6).all() and devices.harvest.std() > 0.04
    assert set(devices.battery_penalty) == {5.0, 7.0, 10.0}
    np.testing.assert_allclose(devices.energy_probability.sum(1), 1.0)
    assert np.ptp(devices.energy_probability) > 0.05
    few, other = build(num_devices=3).devices, build(num_devices=3, environment_seed=1).devices
    np.testing.assert_array_equal(few.harvest, devices.harvest[:3])
    assert not np.array_equal(few.harvest, other.harvest)
    alike = build(num_devices=5, harvest_probability=(0.5, 0.5), processing_energy_jitter=0.0, battery_penalty=(5.0,))
    assert len(set(alike.devices.harvest)) == len(set(alike.devices.battery_penalty)) == 1


@pytest.mark.parametrize("config", [{}, {"energy_model": "delay"}, {"age_cost": "current"}])
def test_assumption_1_holds_for_drawn_devices(config: dict[str, Any]) -> None:
    for seed in range(3):
        margins = build(num_devices=4, environment_seed=seed, **config).assumption_1
        assert margins.shape == (4,) and (margins >= 0).all()


def test_the_penalty_is_that_of_equation_21() -> None:
    assert congestion(np.arange(5), 1.0, 1.0).tolist() == [0, 0, 1, 2, 3]
    assert congestion(np.arange(5), 2.0, 0.5).tolist() == [0, 0, 0.5, 2, 4.5]
    for alpha in (0.5, 1.0, 3.0):
        assert congestion(2, alpha, 1.0) == 1.0  # two devices pay the same for every alpha
    assert congestion(2.25, 0.5, 2.0) == pytest.approx(2 * 1.25**0.5)


def test_metrics_are_those_of_a_plain_sum_over_episodes() -> None:
    config = {"num_devices": 3, "episode_slots": 20, "offload_limit": [0.1, 0.9, 0.2]}
    env = build(2, **config)
    step = env.reset(seed=7)
    policy = make_policy("threshold", env)
    total, weights, offloads, ages, discounted = 0.0, 0.0, 0.0, 0.0, np.zeros(3)
    for t in range(20):
        actions = policy.act(step, None)  # type: ignore[arg-type]  # the rule draws nothing
        ages += float(np.where(actions == WAIT, np.minimum(np.rint(step.obs[..., 0] * 15) + 1, 15), 1).sum())
        offloads += float((actions == OFFLOAD).sum())
        discounted += 0.95**t * (actions == OFFLOAD).sum(0)
        step = env.step(actions)
        total += 0.95**t * float(-step.reward.sum())
        weights += 2 * 0.95**t
    assert step.final is not None
    measured = {m.name: m.reduce(step.final.statistics) for m in env_spec("task_offloading").metrics}
    assert measured["discounted_cost"] == pytest.approx(total / weights)
    assert measured["offload_frequency"] == pytest.approx(offloads / 120)
    assert measured["mean_aoi"] == pytest.approx(ages / 120)
    excess = np.maximum(discounted / weights - np.array([0.1, 0.9, 0.2]), 0.0)
    assert excess.max() > 0
    assert measured["constraint_violation"] == pytest.approx(excess.mean())


def test_a_lone_device_costs_what_the_linear_equations_say() -> None:
    """The simulator against the occupation measure of its matrices, for each energy model."""
    for model, steps in (("debt", 1), ("delay", 2)):
        config: dict[str, Any] = {"num_devices": 1, "energy_model": model, "environment_seed": steps}
        env = build(**config)
        mdp = device_cmdp(env.devices, 0, env.gamma)
        ages = mdp.state // env.devices.num_levels + 1
        levels = mdp.state % env.devices.num_levels + env.devices.lowest
        chosen = np.where(levels >= 2, PROCESS, np.where(ages >= 4, OFFLOAD, WAIT))
        policy = np.zeros(mdp.legal.shape)
        policy[mdp.state, chosen] = 1.0
        expected = evaluate_policy(mdp, policy)
        measured = evaluate("threshold", "task_offloading", config, num_envs=2000, episodes=20_000, seed=3)
        s = measured.statistics
        # 20,000 episodes leave a standard error of about .3 %, the horizon .1 %.
        assert s["discounted_cost"].sum() / s["discount"].sum() == pytest.approx(expected.value, rel=0.015)
        assert s["discounted_offloads"].sum() / s["discount"].sum() == pytest.approx(expected.usage, rel=0.03)


def test_an_episode_begins_by_its_start_law() -> None:
    fresh, full, uniform = (
        np.rint(build(3000, num_devices=2, start=start).reset(seed=5).obs * 15)
        for start in ("fresh", "full", "uniform")
    )
    assert (fresh[..., 0] == 1).all() and set(fresh[..., 1].ravel()) == set(range(16))
    assert (full[..., 0] == 1).all() and (full[..., 1] == 15).all()
    assert set(uniform[..., 0].ravel()) == set(range(1, 16)) and set(uniform[..., 1].ravel()) == set(range(16))
    assert uniform[..., 0].mean() == pytest.approx(8.0, abs=0.25)  # standard error .06


def test_the_state_holds_every_devices_block_and_the_share_that_offloaded() -> None:
    env = build(2, num_devices=4)
    env.reset()
    env.step(np.array([[2, 2, 2, 0], [0, 0, 0, 0]]))
    assert env.state()[:, -1].tolist() == [0.75, 0.0]
    np.testing.assert_array_equal(env.state()[:, :-1], env.local_state().reshape(2, -1))


def test_offloading_costs_more_the_more_do_it_and_no_device_offloads_under_never_offload() -> None:
    costs = []
    for probability in (0.0, 0.5, 1.0):
        metrics = evaluate(
            "random", "task_offloading", {"num_devices": 20}, episodes=64, params={"offload_probability": probability}
        ).metrics()
        assert metrics["offload_frequency"]["mean"] == pytest.approx(probability, abs=0.01)
        costs.append(metrics["discounted_cost"]["mean"])
    assert costs[1] > 20 * (0.5 * 0.5 * 19)  # each offloads every other slot beside 9.5 others
    assert costs[2] == pytest.approx(20 * (1 + 19))
    never = evaluate("never_offload", "task_offloading", {"num_devices": 20}, episodes=64).metrics()
    assert never["offload_frequency"]["mean"] == 0.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_devices": 0}, "num_devices = 0"),
        ({"max_age": 1}, "max_age = 1"),
        ({"energy_model": "solar"}, "energy_model = 'solar', but it should be 'debt' or 'delay'"),
        ({"harvest_probability": (0.6, 0.4)}, "interval"),
        ({"harvest_probability": (0.5, 1.5)}, "harvest_probability"),
        ({"offload_limit": (0.1, 0.2)}, "must have num_devices = 10 values, not 2"),
        ({"penalty_exponent": 0.0}, "penalty_exponent"),
        ({"processing_energy": ()}, "processing_energy"),
        ({"devices": 3}, "there is no such field"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**config)


def test_under_strict_processing_in_debt_is_refused() -> None:
    env = make_env("task_offloading", strict=True, num_devices=2, processing_energy=(3,), battery_capacity=1)
    env.reset()
    for _ in range(3):
        legal = env.reset(seed=1).action_mask
        while legal[0, 1, PROCESS]:
            legal = env.step(np.array([[WAIT, PROCESS]])).action_mask
        with pytest.raises(UserError, match=r"illegal action 1 of device_1 in copy 0; its mask allows 0 or 2"):
            env.step(np.array([[WAIT, PROCESS]]))
