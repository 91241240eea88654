"""The simulator of radio_resource against a plain simulation, and each of its options."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pettingzoo.test import parallel_api_test  # type: ignore[import-untyped]
from ray.rllib.utils.pre_checks.env import check_multiagent_environments

from rllib_wireless.envs import make_env
from rllib_wireless.envs.base import EnvStep
from rllib_wireless.envs.pettingzoo import ParallelView
from rllib_wireless.envs.radio_resource import RadioResource
from rllib_wireless.envs.radio_resource.config import SPLITS
from rllib_wireless.envs.radio_resource.draws import split_seed
from rllib_wireless.envs.radio_resource.metrics import METRICS
from rllib_wireless.envs.rllib import MultiAgentView
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.policies import evaluate
from rllib_wireless.testing import check_env
from rllib_wireless.testing.check import LegalActions

NAME = "radio_resource"
Floats = npt.NDArray[np.float64]
SHORT: dict[str, Any] = {"episode_slots": 40, "warmup_slots": 5}
ALL_OPTIONS: dict[str, Any] = {
    "arrival_rate_hz": 100.0,
    "packet_bytes": 5000,
    "mean_session_slots": 20.0,
    "mobility": "random_direction",
    "user_speed_mps": 30.0,
    "shadowing_correlation_m": 10.0,
    "noise_figure_db": 7.0,
    "max_rate": 7.4,
}


def radio(num_envs: int = 1, **config: Any) -> RadioResource:
    env = make_env(NAME, num_envs, **config)
    assert isinstance(env, RadioResource)
    return env


def run(env: RadioResource, steps: int, seed: int = 0) -> EnvStep:
    """Random legal actions."""
    legal, step = LegalActions(seed, env.num_envs), env.reset(seed)
    for _ in range(steps):
        step = env.step(legal.draw(step.action_mask))
    return step


@pytest.mark.parametrize(
    "config",
    [
        {},
        ALL_OPTIONS,
        {"preset": "office", "num_users": 30, "num_access_points": 6, "fading": "none"},
        {"num_access_points": 1, "num_users": 1, "top_users": 2},
    ],
)
def test_it_keeps_the_promises_of_every_environment(config: dict[str, Any]) -> None:
    notes = check_env(partial(make_env, NAME, **{**SHORT, **config}), num_steps=90)
    assert not any("episode" in note for note in notes)


@pytest.mark.parametrize("config", [{}, ALL_OPTIONS])
def test_rllib_and_pettingzoo_accept_its_views(config: dict[str, Any]) -> None:
    check_multiagent_environments(MultiAgentView(NAME, {**SHORT, **config}))
    parallel_api_test(ParallelView(NAME, {**SHORT, **config}), num_cycles=100)


class PlainNetwork:
    """One copy as one would write it in plain NumPy; it is told the channel, and finds everything else by itself."""

    eta, exponent, max_weight, top = 0.01, 0.8, 100.0, 3

    def __init__(self, env: RadioResource) -> None:
        self.serving = env.drops.gain[0].argmax(0)
        sinr = self.sinr(env.drops.gain[0], np.ones(len(env.agents), bool))
        counts = np.bincount(self.serving, minlength=len(env.agents))
        self.average = np.log2(1 + sinr) / counts[self.serving]

    def sinr(self, received: Floats, on: npt.NDArray[np.bool_]) -> Floats:
        """Of every user at its own access point, if these are on."""
        users = np.arange(received.shape[1])
        own = received[self.serving, users]
        others = (received * on[:, None]).sum(0) - own * on[self.serving]
        found: Floats = own / (1 + others)
        return found

    def rank(self, measured: Floats) -> list[list[int]]:
        """Best users of each access point."""
        sinr = self.sinr(measured, np.ones(len(measured), bool))
        ratio = self.weights * np.log2(1 + sinr)
        own = [np.flatnonzero(self.serving == i) for i in range(len(measured))]
        return [users[np.argsort(-ratio[users])][: self.top].tolist() for users in own]

    @property
    def weights(self) -> Floats:
        weights: Floats = np.minimum(1 / self.average, self.max_weight)
        return weights

    def serve(self, received: Floats, users: Sequence[int | None]) -> float:
        """Transmit; returns the reward."""
        on = np.array([user is not None for user in users])
        sinr = self.sinr(received, on)
        rate = np.zeros(len(self.average))
        for user in users:
            if user is not None:
                rate[user] = np.log2(1 + sinr[user])
        reward = float((self.weights**self.exponent * rate).sum())
        self.average = self.eta * rate + (1 - self.eta) * self.average
        return reward


def test_slots_are_those_of_a_plain_simulation() -> None:
    env = radio(1, warmup_slots=30, episode_slots=200)
    legal, step = LegalActions(0, 1), env.reset(7)
    plain = PlainNetwork(radio_at_start(7))
    replay = radio_at_start(7)
    for slot in range(30):  # the warm-up, whose channel is that of the same drop without one
        own = [np.flatnonzero(plain.serving == i).tolist() for i in range(4)]
        plain.serve(replay.network.received[0], [users[slot % len(users)] for users in own])
        replay.step(np.zeros((1, 4)))
    for _ in range(150):
        measured = env.network.measured[0].copy()
        ranked = plain.rank(measured)
        sinr = 10 * np.log10(plain.sinr(measured, np.ones(4, bool)))
        for i, users in enumerate(ranked):
            expected = np.zeros(6)
            expected[: len(users)] = np.clip(sinr[users], -20, 60) / 40
            expected[3 : 3 + len(users)] = np.clip(np.log10(plain.weights[users]), -2, 2)
            np.testing.assert_allclose(step.obs[0, i], expected, atol=1e-5)
            assert step.action_mask[0, i].tolist() == [True] + [k < len(users) for k in range(3)]
        actions = legal.draw(step.action_mask)
        chosen = [ranked[i][a - 1] if a else None for i, a in enumerate(actions[0])]
        received = env.network.received[0].copy()
        reward = plain.serve(received, chosen)
        step = env.step(actions)
        assert step.reward[0] == pytest.approx([reward] * 4, rel=1e-5)
        np.testing.assert_array_equal(env.network.measured[0], received)  # seen one slot later


def radio_at_start(seed: int) -> RadioResource:
    env = radio(1, warmup_slots=0, episode_slots=200)
    env.reset(seed)
    return env


def test_metrics_are_those_of_the_users_rates() -> None:
    evaluation = evaluate("random", NAME, SHORT, num_envs=4, episodes=8)
    s = evaluation.statistics
    rates = s["rate"] / 40
    values = {m.name: m.reduce(s) for m in METRICS}
    assert rates.shape == (8, 24) and (s["user_slots"] == 40).all() and (s["episodes"] == 1).all()
    assert values["sum_rate"] == pytest.approx(rates.sum(1).mean())
    assert values["mean_rate"] == pytest.approx(rates.mean())
    assert values["tail_rate"] == pytest.approx(np.percentile(rates, 5))
    assert values["score"] == pytest.approx(rates.mean() + 3 * np.percentile(rates, 5))
    each = rates.mean(1) + 3 * np.percentile(rates, 5, axis=1)
    assert values["score_per_episode"] == pytest.approx(each.mean())
    assert 0.15 < values["silent_share"] < 0.35 and np.isnan(values["mean_delay"])


def test_users_that_were_never_there_have_no_rate() -> None:
    s = evaluate("full_reuse", NAME, {**SHORT, "mean_session_slots": 10.0}, num_envs=4, episodes=4).statistics
    absent = s["user_slots"] == 0
    assert absent.any() and (s["rate"][absent] == 0).all()
    rates = s["rate"][~absent] / s["user_slots"][~absent]
    values = {m.name: m.reduce(s) for m in METRICS}
    assert values["tail_rate"] == pytest.approx(np.percentile(rates, 5))
    assert values["mean_rate"] == pytest.approx(rates.mean())


def test_a_row_of_several_episodes_has_no_tail() -> None:
    metrics = evaluate("full_reuse", NAME, SHORT, num_envs=2, steps=100).metrics()
    assert np.isnan(metrics["tail_rate"]["mean"]) and np.isnan(metrics["score"]["mean"])
    assert metrics["sum_rate"]["mean"] > 0
    assert evaluate("full_reuse", NAME, SHORT, num_envs=2, steps=30).metrics()["score"]["mean"] > 0
    unsaid = evaluate("full_reuse", NAME, SHORT, num_envs=50)
    assert (unsaid.unit, unsaid.num_rows) == ("episode", 100)


class TestDrops:
    """Who is where."""

    def test_positions_keep_their_distances_and_every_access_point_has_a_user(self) -> None:
        env = radio(200)
        env.reset(0)
        points, users = env.drops.access_points, env.drops.users
        assert ((users >= 0) & (users <= 500)).all() and ((points >= 0) & (points <= 500)).all()
        between = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1) + 1e9 * np.eye(4)
        assert between.min() >= 35
        assert np.linalg.norm(users[:, :, None] - points[:, None], axis=-1).min() >= 10
        assert all(set(serving) == {0, 1, 2, 3} for serving in env.network.serving)
        np.testing.assert_array_equal(env.network.serving, env.drops.gain.argmax(1))
        assert (users.mean((0, 1)), users.std((0, 1))) == pytest.approx((250, 500 / 12**0.5), abs=15)  # uniform

    def test_they_are_the_same_for_every_policy_and_new_in_every_episode(self) -> None:
        envs = [radio(3, **SHORT), radio(3, **SHORT)]
        seen = []
        for episode in range(3):
            if episode == 0:
                for env in envs:
                    env.reset(5)
            gains = [env.drops.gain for env in envs]
            np.testing.assert_array_equal(gains[0], gains[1])
            np.testing.assert_array_equal(envs[0].network.received, envs[1].network.received)  # the fading, too
            seen += list(gains[0][:, 0, 0])
            for _ in range(40):
                for env, action in zip(envs, (0, 1), strict=True):
                    env.step(np.full((3, 4), action))
        assert len(set(seen)) == 9

    def test_no_drop_is_in_two_splits_whatever_the_seeds(self) -> None:
        keys = [split_seed(seed, split) for seed in range(100) for split in SPLITS]
        assert len(set(keys)) == 300
        seen: set[float] = set()
        for split in SPLITS:
            for seed in range(5):
                env = radio(20, split=split, **SHORT)
                env.reset(seed)
                seen |= set(env.drops.users[:, 0, 0])
        assert len(seen) == 3 * 5 * 20

    def test_drops_that_cannot_be_are_refused(self) -> None:
        with pytest.raises(UserError, match=r"4 access points 300 m apart .* were not found in 200 x 200 m"):
            radio(1, area_m=200.0, min_access_point_distance_m=300.0).reset()

    def test_the_office_has_its_layout(self) -> None:
        env = radio(2, preset="office")
        env.reset(0)
        assert env.drops.gain.shape == (2, 12, 120) and len(env.agents) == 12
        assert ((env.drops.users <= [120, 50]) & (env.drops.users >= 0)).all()
        assert env.config.height_difference_m == 2.0 and env.config.episode_slots == 1000
        assert radio(1, preset="office", num_users=20).config.num_users == 20  # what is given wins


class TestOptions:
    """Each does what it says."""

    def test_static_users_stay_and_moving_ones_walk_straight_and_are_reflected(self) -> None:
        static, moving = radio(3, **SHORT), radio(3, mobility="random_direction", user_speed_mps=100.0, **SHORT)
        for env in (static, moving):
            env.reset(0)
        start, gain = moving.drops.users.copy(), moving.drops.gain.copy()
        for env in (static, moving):
            for _ in range(39):
                env.step(np.zeros((3, 4)))
        np.testing.assert_array_equal(static.drops.users, start)
        # 5 slots of warm-up, 39 of the episode and 2 more that are known; the last multiple of 20 is slot 40: 4 m.
        went = np.linalg.norm(moving.drops.users - start, axis=-1)
        assert went.max() == pytest.approx(4.0) and (went > 3.999).mean() > 0.9
        assert ((moving.drops.users >= 0) & (moving.drops.users <= 500)).all()
        assert (moving.drops.gain != gain).all()

    def test_handover_follows_the_strongest_beyond_a_margin(self) -> None:
        config = {"mobility": "random_direction", "user_speed_mps": 1000.0, "episode_slots": 400, "warmup_slots": 0}
        loyal, eager = radio(3, handover_margin_db=200.0, **config), radio(3, handover_margin_db=0.0, **config)
        for env in (loyal, eager):
            env.reset(0)
        before = loyal.network.serving.copy()
        for env in (loyal, eager):
            for _ in range(399):
                env.step(np.zeros((3, 4)))
        np.testing.assert_array_equal(loyal.network.serving, before)
        np.testing.assert_array_equal(eager.network.serving, eager.drops.gain.argmax(1))
        assert (eager.network.serving != before).any()

    def test_users_come_and_go_and_are_not_served_while_away(self) -> None:
        env = radio(40, mean_session_slots=30.0, num_users=40, episode_slots=100, warmup_slots=20)
        step, there = env.reset(0), []
        for _ in range(99):
            there.append(env.network.there.mean())
            ranked = env.network.ranked
            assert env.network.there[np.arange(40)[:, None, None], ranked][ranked >= 0].all()
            np.testing.assert_array_equal(step.acting, (ranked >= 0).any(-1))
            step = env.step(step.acting.astype(int))
        # A session of length S is there at any time with probability S / (S + 120).
        lengths = np.random.default_rng(0).exponential(30.0, 1_000_000)
        expected = (lengths / (lengths + 120)).mean()
        assert np.mean(there[:30]) == pytest.approx(expected, abs=0.03)
        assert np.mean(there[-30:]) == pytest.approx(expected, abs=0.03)
        assert not env.network.there.all(0).any()

    def test_no_rate_is_above_the_cap(self) -> None:
        free, capped = radio(5, **SHORT), radio(5, max_rate=2.0, **SHORT)
        for env in (free, capped):
            env.reset(0)
            env.step(np.ones((5, 4)))
        assert free.statistics()["rate"].max() > 2.0
        assert capped.statistics()["rate"].max() == 2.0

    def test_what_arrives_is_sent_or_still_queued(self) -> None:
        env = radio(10, arrival_rate_hz=50.0, packet_bytes=3000, episode_slots=301, warmup_slots=0)
        run(env, 300)
        s, queue = env.statistics(), env.network.queue
        np.testing.assert_allclose(s["arrived_bits"], s["rate"] * 10_000 + queue, rtol=1e-9)
        # 50 packets/s for .3 s, 240 users: 15 of each on average, with a standard error of .25.
        assert (env.network.packets - 1).mean() == pytest.approx(15.0, abs=0.8)

    def test_the_delay_is_that_of_a_single_server_queue(self) -> None:
        """M/D/1 with a load of 1/2: mean work in the queue is lambda D^2 / (2 (1 - load)), here 5 slots."""
        config = {"num_access_points": 1, "num_users": 1, "fading": "none", "shadowing_db": 0.0, "max_rate": 1.0}
        env = radio(60, arrival_rate_hz=50.0, packet_bytes=12_500, episode_slots=3001, warmup_slots=0, **config)
        step = env.reset(0)
        for _ in range(3000):
            step = env.step(step.acting.astype(int))
        s = env.statistics()
        # Work is looked at with the arrivals of the whole slot, on average half a slot's load early.
        assert s["queued_bits"].sum() / s["slots"].sum() / 10_000 == pytest.approx(5.0 + 0.25, rel=0.12)

    def test_the_queue_is_observed(self) -> None:
        env = radio(4, arrival_rate_hz=100.0, packet_bytes=5000, episode_slots=100, warmup_slots=0)
        run(env, 60)
        ranked, obs = env.network.ranked, env._obs[..., 6:]
        copies = np.arange(4)[:, None, None]
        expected = np.where(ranked >= 0, np.minimum(env.network.queue[copies, ranked] / 400_000, 1.0), 0.0)
        np.testing.assert_allclose(obs, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_users": 3}, "num_users must be at least num_access_points = 4, not 3"),
        ({"preset": "office", "num_access_points": 30}, "make 5 rows of 6, which do not fit into 120 x 50 m"),
        ({"preset": "home"}, "preset = 'home'"),
        ({"split": "dev"}, "split = 'dev'"),
        ({"fairness_exponent": 2.0}, "fairness_exponent = 2.0"),
        ({"num_aps": 3}, "there is no such field"),
    ],
)
def test_mistakes_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        radio(1, **config)
