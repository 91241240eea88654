"""Rules of radio_resource against plain Python, exhaustive search and the calibration of an independent simulator."""

import itertools
from typing import Any

import numpy as np
import pytest

from rllib_wireless.envs import StepRandom, make_env, make_policy
from rllib_wireless.envs.radio_resource import RadioResource
from rllib_wireless.errors import ConfigError
from rllib_wireless.policies import Rollout, evaluate

NAME = "radio_resource"


def rollout(rule: str, num_envs: int = 5, params: dict[str, Any] | None = None, **config: Any) -> Rollout:
    env = make_env(NAME, num_envs, **config)
    return Rollout(env, make_policy(rule, env, **(params or {})), seed=1)


def test_the_random_walk_takes_every_legal_action_equally_often() -> None:
    run = rollout("random", num_envs=200, num_users=8)  # some access points have fewer than 3 users
    counts, legal = np.zeros((200, 4, 4)), run.step.action_mask.copy()
    for _ in range(40):
        mask = run.step.action_mask.copy()
        np.testing.assert_array_equal(mask.sum(-1), legal.sum(-1))
        run.advance()
        assert run.policy.action_prob is not None
        np.testing.assert_allclose(run.policy.action_prob, 1 / mask.sum(-1))
        counts += run.actions[..., None] == np.arange(4)
    assert not counts[~legal].any()
    for choices in (2, 3, 4):
        agents = legal.sum(-1) == choices
        share = counts[agents].sum(0)[:choices] / counts[agents].sum()
        assert share == pytest.approx([1 / choices] * choices, abs=0.03)


def test_tdm_has_one_access_point_on_in_turn_and_full_reuse_all() -> None:
    tdm, full = rollout("tdm"), rollout("full_reuse")
    for t in range(8):
        tdm.advance(), full.advance()
        assert (tdm.actions == (np.arange(4) == t % 4)).all() and (full.actions == 1).all()


@pytest.mark.parametrize(("margin_db", "exponent"), [(25.0, 0.5), (10.0, 0.6), (0.0, 0.9)])
def test_itlinq_is_its_definition(margin_db: float, exponent: float) -> None:
    run = rollout("itlinq", params={"margin_db": margin_db, "exponent": exponent}, num_access_points=6)
    env = run.env
    assert isinstance(env, RadioResource)
    for _ in range(20):
        n = env.network
        expected = np.zeros((5, 6), int)
        for b in range(5):
            on: list[int] = []
            for i in np.argsort(-n.ratio[b, :, 0]):
                user = n.ranked[b, i, 0]
                interference = [max(n.measured[b, k, user], n.measured[b, i, n.ranked[b, k, 0]]) for k in on]
                if max(interference, default=0.0) <= 10 ** (margin_db / 10) * n.measured[b, i, user] ** exponent:
                    on.append(int(i))
            expected[b, on] = 1
        run.advance()
        np.testing.assert_array_equal(run.actions, expected)


def test_itlinq_between_one_link_and_all() -> None:
    alone = rollout("itlinq", params={"margin_db": -100.0})
    everyone = rollout("itlinq", params={"margin_db": 150.0})
    for _ in range(5):
        alone.advance(), everyone.advance()
        assert (alone.actions.sum(1) == 1).all() and (everyone.actions == 1).all()


def value(env: RadioResource, b: int, actions: tuple[int, ...]) -> float:
    """Reward of a joint action in the coming slot."""
    n = env.network
    total = 0.0
    for i, a in enumerate(actions):
        if a:
            user = n.ranked[b, i, a - 1]
            interference = sum(n.received[b, k, user] for k, other in enumerate(actions) if other and k != i)
            rate = np.log2(1 + n.received[b, i, user] / (1 + interference))
            total += min(1 / n.average[b, user], 100.0) ** env.config.fairness_exponent * rate
    return total


@pytest.mark.parametrize("fairness_exponent", [0.0, 0.8])
def test_the_genie_finds_the_best_of_all_joint_actions(fairness_exponent: float) -> None:
    run = rollout("genie", num_envs=3, fairness_exponent=fairness_exponent)
    assert run.policy.privileged and isinstance(run.env, RadioResource)
    for _ in range(6):
        legal = [[np.flatnonzero(mask).tolist() for mask in masks] for masks in run.step.action_mask]
        best = [max(value(run.env, b, joint) for joint in itertools.product(*legal[b])) for b in range(3)]
        run.advance()
        np.testing.assert_allclose(run.step.reward[:, 0], best, rtol=1e-6)


def test_beyond_exhaustive_search_the_genie_is_at_a_local_optimum() -> None:
    env = make_env(NAME, 4, num_access_points=8, num_users=40)
    assert isinstance(env, RadioResource)
    full, local = make_policy("genie", env), make_policy("genie", env, exhaustive_up_to=7)
    step, random = env.reset(0), StepRandom(0, 4, 8)
    close = []
    for _ in range(10):
        best, found = full.act(step, random), local.act(step, random)
        for b in range(4):
            reached = value(env, b, tuple(found[b]))
            assert value(env, b, (1,) * 8) <= reached <= value(env, b, tuple(best[b])) + 1e-9
            for i in range(8):  # no access point can do better by being silent, or by another user
                for action in np.flatnonzero(step.action_mask[b, i]):
                    other = (*found[b, :i], int(action), *found[b, i + 1 :])
                    assert value(env, b, other) <= reached + 1e-9
            close.append(reached / value(env, b, tuple(best[b])))
        step = env.step(best)
    assert np.mean(close) > 0.97


def test_twelve_access_points_are_no_problem_for_the_genie() -> None:
    """4^12 joint actions."""
    run = rollout("genie", num_envs=2, preset="office", num_users=30)
    run.advance()
    assert (run.step.reward > 0).all()


def test_parameters_out_of_range_are_named() -> None:
    with pytest.raises(ConfigError, match="itlinq: exponent = -1"):
        rollout("itlinq", params={"exponent": -1.0})


# An independent simulator: 100 drops (genie 40) of 1,000 slots, with 16 sinusoids and no delay of channel knowledge. Its
# standard error of the score is .015 to .02 (.035), ours with 60 drops about .025; three standard deviations together.
CALIBRATION = {
    "random": (0.559, 1.04, 0.1),
    "tdm": (0.463, 0.86, 0.09),
    "full_reuse": (0.615, 1.11, 0.1),
    "genie": (0.787, 1.63, 0.14),
}


@pytest.mark.parametrize("rule", CALIBRATION)
def test_rules_reach_the_calibration(rule: str) -> None:
    mean_rate, score, tolerance = CALIBRATION[rule]
    metrics = evaluate(rule, NAME, {"split": "test"}, num_envs=60, episodes=60).metrics()
    assert metrics["mean_rate"]["mean"] == pytest.approx(mean_rate, abs=0.06)
    assert metrics["score"]["mean"] == pytest.approx(score, abs=tolerance)


def test_itlinq_explores_in_a_share_of_decisions_each_access_point_by_itself() -> None:
    """With .4 the rule's own choice is left in .6 of them and in a legal share of the others; with 1 it is the random walk."""
    run = rollout("itlinq", num_envs=200, params={"epsilon": 0.4}, num_users=8)
    assert isinstance(run.env, RadioResource)
    rule = make_policy("itlinq", run.env)
    changed, expected = np.zeros(4), np.zeros(4)
    for _ in range(40):
        own, legal = rule.act(run.step, run.random), run.step.action_mask.copy()
        run.advance()
        assert np.take_along_axis(legal, run.actions[..., None], -1).all()
        changed += (run.actions != own).mean(0) / 40
        expected += (0.4 * (1 - 1 / legal.sum(-1))).mean(0) / 40
    np.testing.assert_allclose(changed, expected, atol=0.02)
    walk, exploring = rollout("random"), rollout("itlinq", params={"epsilon": 1.0})
    walk.advance(), exploring.advance()
    np.testing.assert_array_equal(walk.actions, exploring.actions)
