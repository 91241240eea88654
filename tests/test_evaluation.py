"""Running policies and measuring them, against a simulation by hand and closed forms."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_env import LONGEST, SPEC, LastLegal, episodes_by_hand, make_toy

from rllib_wireless.envs import EnvStep, StepRandom, registry
from rllib_wireless.envs.base import IntArray, Statistics
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.policies import (
    Evaluation,
    NetworkPolicy,
    Policy,
    StackedMLP,
    evaluate,
    paired_difference,
    run,
    save_policy,
)
from rllib_wireless.policies import evaluation as evaluation_module

COPIES = 5


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._SPECS, "toy", SPEC)


def by_hand(episodes: list[dict[str, Any]]) -> tuple[int, list[int]]:
    """Steps and rewards per agent over episodes."""
    return sum(e["steps"] for e in episodes), np.sum([e["reward"] for e in episodes], axis=0).tolist()


@pytest.mark.parametrize("steps", [1, 4, 37])
def test_steps_count_finished_episodes_and_the_running_one(steps: int) -> None:
    statistics = run(make_toy(COPIES), LastLegal(), steps=steps, seed=2)
    for b in range(COPIES):
        expected = by_hand(episodes_by_hand(2, b, 2, steps))
        assert (statistics["steps"][b], statistics["reward"][b].tolist()) == expected


def test_warm_up_is_not_counted() -> None:
    statistics = run(make_toy(COPIES), LastLegal(), steps=20, warmup_steps=7, seed=2)
    for b in range(COPIES):
        whole, before = (by_hand(episodes_by_hand(2, b, 2, t)) for t in (27, 7))
        assert statistics["steps"][b] == 20
        assert statistics["reward"][b].tolist() == (np.array(whole[1]) - before[1]).tolist()


def test_episodes_are_one_row_each_the_same_number_in_every_copy() -> None:
    statistics = run(make_toy(COPIES), LastLegal(), episodes=11, seed=1)
    expected = [e for b in range(COPIES) for e in episodes_by_hand(1, b, 2, 60)[:3]]
    assert statistics["steps"].tolist() == [e["steps"] for e in expected]
    assert statistics["reward"].tolist() == [e["reward"] for e in expected]


class Clock(Policy):
    """Keeps the time for itself, and notes whether it agrees with what is observed."""

    def __init__(self, num_envs: int) -> None:
        self.time = np.full(num_envs, -1)
        self.agreed: list[bool] = []

    def reset(self, copies: IntArray) -> None:
        self.time[copies] = 0

    def act(self, step: EnvStep, random: StepRandom) -> IntArray:
        self.agreed.append(bool((np.rint(step.obs[:, 0, 2] * LONGEST) == self.time).all()))
        self.time += 1
        return np.zeros(step.acting.shape, np.int64)


def test_a_policy_is_reset_in_exactly_the_copies_whose_episode_ended() -> None:
    clock = Clock(COPIES)
    run(make_toy(COPIES), clock, steps=40)
    assert len(clock.agreed) == 40 and all(clock.agreed)


def test_random_numbers_advance_with_every_step() -> None:
    class Recorder(Clock):
        def act(self, step: EnvStep, random: StepRandom) -> IntArray:
            drawn.append(random.uniform())
            return np.zeros(step.acting.shape, np.int64)

    drawn: list[Any] = []
    run(make_toy(1), Recorder(1), steps=100)
    assert np.unique(np.stack(drawn)).size == 200


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "give either steps or episodes"),
        ({"steps": 3, "episodes": 3}, "give either steps or episodes"),
        ({"steps": 0}, "steps = 0, but it should be at least 1"),
        ({"episodes": -1}, "episodes = -1, but it should be at least 1"),
        ({"steps": 3, "warmup_steps": -1}, "warmup_steps = -1, but it should be at least 0"),
        ({"episodes": 3, "warmup_steps": 1}, "warmup_steps goes with steps"),
    ],
)
def test_a_run_of_unclear_length_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(make_toy(), LastLegal(), **asked)


def test_counting_episodes_that_never_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_module, "_PATIENCE", 50)
    with pytest.raises(UserError, match="no episode of toy has ended in 50 steps: use steps"):
        run(make_toy(endless=True), LastLegal(), episodes=1)


@pytest.mark.parametrize("length", [{"steps": 200}, {"episodes": 30}])
def test_progress_rises_to_one(length: dict[str, Any]) -> None:
    shares: list[float] = []
    run(make_toy(2), LastLegal(), **length, progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and 5 < len(shares) <= 101


def evaluation(statistics: Statistics, **changes: Any) -> Evaluation:
    fields: dict[str, Any] = {"env": "toy", "env_config": {}, "policy": "p", "unit": "copy", "seed": 0, **changes}
    return Evaluation(statistics=statistics, **fields)


def test_a_metric_pools_over_rows_and_spreads_over_rows() -> None:
    metric = evaluation({"reward": np.array([[2.0], [6.0], [1.0]]), "steps": np.array([1, 2, 5])}).metrics()[
        "reward_per_step"
    ]
    assert metric["mean"] == 9 / 8
    assert metric["std"] == pytest.approx(np.std([2.0, 3.0, 0.2], ddof=1))
    assert metric["n"] == 3


def test_the_interval_is_that_of_the_mean() -> None:
    rows = np.random.default_rng(0).normal(5.0, 2.0, (400, 1))
    metric = evaluation({"reward": rows, "steps": np.ones(400, np.int64)}).metrics()["reward_per_step"]
    half = 1.96 * rows.std(ddof=1) / 20
    assert metric["ci95"] == pytest.approx([rows.mean() - half, rows.mean() + half], abs=0.15 * half)


def test_one_row_has_no_interval_and_json_says_null() -> None:
    single = evaluation({"reward": np.ones((1, 1)), "steps": np.ones(1, np.int64)})
    assert np.isnan(single.metrics()["reward_per_step"]["ci95"]).all()
    printed = json.loads(json.dumps(single.to_json(), allow_nan=False))
    assert printed["metrics"]["reward_per_step"] == {"mean": 1.0, "std": None, "ci95": [None, None], "n": 1}


def test_a_constant_shift_has_a_difference_without_spread() -> None:
    rows = np.random.default_rng(0).normal(5.0, 2.0, (50, 1))
    a, b = (evaluation({"reward": rows + shift, "steps": np.ones(50, np.int64)}) for shift in (1.0, 0.0))
    assert paired_difference(a, b, "reward_per_step") == pytest.approx((1.0, 1.0, 1.0))


def test_the_paired_interval_is_that_of_the_mean_difference() -> None:
    rng = np.random.default_rng(0)
    common, own = rng.normal(0, 5, (300, 1)), rng.normal(0.5, 1, (300, 1))
    a, b = (evaluation({"reward": r, "steps": np.ones(300, np.int64)}) for r in (common + own, common))
    mean, lower, upper = paired_difference(a, b, "reward_per_step")
    half = 1.96 * own.std(ddof=1) / 300**0.5
    assert mean == pytest.approx(own.mean())
    assert (lower, upper) == pytest.approx((own.mean() - half, own.mean() + half), abs=0.15 * half)


def test_what_has_no_common_rows_cannot_be_paired() -> None:
    statistics = {"reward": np.ones((4, 1)), "steps": np.ones(4, np.int64)}
    a = evaluation(statistics)
    for change in ({"seed": 1}, {"unit": "episode"}, {"env_config": {"num_agents": 3}}):
        with pytest.raises(UserError, match=f"cannot pair evaluations: {next(iter(change))} is"):
            paired_difference(a, evaluation(statistics, **change), "reward_per_step")
    with pytest.raises(UserError, match="num_rows is 4 and 3"):
        paired_difference(a, evaluation({name: v[:3] for name, v in statistics.items()}), "reward_per_step")
    with pytest.raises(UserError, match="no metric 'speed'; metrics are reward_per_step, episode_steps"):
        paired_difference(a, a, "speed")


def test_a_rule_is_evaluated_by_name_with_its_parameters() -> None:
    one, two = (evaluate("fixed", "toy", num_envs=2, steps=40, params={"action": a}).metrics() for a in (1, 2))
    assert one["reward_per_step"]["mean"] > two["reward_per_step"]["mean"] > 0
    with pytest.raises(ConfigError, match="action = 3"):
        evaluate("fixed", "toy", params={"action": 3})


def test_name_path_and_object_are_the_same_policy(tmp_path: Path) -> None:
    policy = NetworkPolicy(StackedMLP(2, (4, 8, 3), torch.Generator().manual_seed(0)), ("agent_0", "agent_1"))
    save_policy(policy, tmp_path / "p", env="toy", env_config={})
    as_object, as_path, as_text = (
        evaluate(p, "toy", num_envs=3, episodes=30, seed=4) for p in (policy, tmp_path / "p", str(tmp_path / "p"))
    )
    assert as_object.metrics() == as_path.metrics() == as_text.metrics()
    assert as_text.to_json() == {"env": "toy", "policy": str(tmp_path / "p"), "metrics": as_text.metrics()}
    assert (as_text.unit, as_text.num_rows) == ("episode", 30)
    few = evaluate(policy, "toy", num_envs=3, episodes=2, seed=4)
    assert few.num_rows == 2, "no more copies than episodes"
    greedy = evaluate(tmp_path / "p", "toy", num_envs=3, episodes=30, seed=4, params={"mode": "greedy"})
    assert greedy.metrics() != as_path.metrics()


def test_what_is_neither_rule_nor_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing is neither a rule of toy \(last_legal, fixed\) nor a folder"):
        evaluate("nothing", "toy")
    with pytest.raises(UserError, match="neither a rule of toy"):
        evaluate(tmp_path, "toy")
    with pytest.raises(UserError, match="there is no environment 'toys'"):
        evaluate("fixed", "toys")


def test_a_policy_of_another_environment_is_refused(tmp_path: Path) -> None:
    policy = NetworkPolicy(StackedMLP(2, (4, 8, 3)), ("agent_0", "agent_1"))
    save_policy(policy, tmp_path / "p", env="toy", env_config={})
    with pytest.raises(UserError, match=r"acts for 2 agents \(agent_0, agent_1\), but channel_access has 2 agents"):
        evaluate(tmp_path / "p", "channel_access", {"num_stations": 2})
    with pytest.raises(UserError, match="no parameter 'cw_min'"):
        evaluate(tmp_path / "p", "toy", params={"cw_min": 3})


def test_equal_seeds_give_equal_results_and_others_do_not() -> None:
    config = {"num_stations": 3}
    first, again, other = (
        evaluate("csma_ca", "channel_access", config, num_envs=4, steps=300, seed=s) for s in (0, 0, 1)
    )
    assert first.to_json() == again.to_json() != other.to_json()


def test_ac_be_has_the_throughput_of_an_independent_simulation() -> None:
    metrics = evaluate("ac_be", "channel_access", {"num_stations": 8}, steps=2000, warmup_steps=500).metrics()
    assert metrics["throughput_ratio"]["mean"] == pytest.approx(0.809, abs=0.012)
    assert metrics["collision_probability"]["mean"] == pytest.approx(0.255, abs=0.012)
