"""The shared channel: observations, rewards, traffic and statistics against brute force and queueing theory."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rllib_wireless.benchmarks.simulator import PlainChannel, PlainDecisions, PlainSlots
from rllib_wireless.envs import BatchedEnv, EnvStep, field_slices, make_env, make_policy
from rllib_wireless.envs.channel_access.channel import share_sum
from rllib_wireless.envs.channel_access.config import ChannelAccessConfig
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.policies import Rollout, evaluate

PACKET, DIFS = 120, 4
IDLE, BUSY, SUCCESS, COLLISION = range(4)

Array = npt.NDArray[np.float32]


def random_actions(steps: int, num_envs: int, num_stations: int, tau: float, seed: int = 0) -> npt.NDArray[np.int64]:
    draws = np.random.default_rng(seed).random((steps, num_envs, num_stations))
    return (draws < tau).astype(np.int64)


def columns(env: BatchedEnv, obs: Array, field: str) -> Array:
    return obs[..., field_slices(env.obs_fields)[field]]


@pytest.mark.parametrize("time_step", ["slot", "decision"])
def test_equal_actions_give_what_plain_python_gives(time_step: str) -> None:
    plain: PlainChannel = PlainSlots(4) if time_step == "slot" else PlainDecisions(4)
    alpha = 0.01 if time_step == "slot" else 0.0  # PlainDecisions leaves out the delay penalty
    env = make_env("channel_access", num_stations=4, time_step=time_step, episode_slots=None, alpha=alpha)
    env.reset()
    for actions in random_actions(4000, 1, 4, tau=0.2):
        actions = actions * plain.deciding
        obs, rewards = plain.step(actions[0].tolist())
        step = env.step(actions)
        np.testing.assert_allclose(step.obs[0], obs, atol=1e-6)
        np.testing.assert_allclose(step.reward[0], rewards, atol=1e-6)
        assert step.acting.all() == plain.deciding
    assert env.statistics()["slots"][0] == plain.time


def test_a_written_out_episode() -> None:
    # Station 0 sends, both collide, a slot stays idle, station 1 sends; alpha = 0 leaves the events.
    env = make_env("channel_access", num_stations=2, alpha=0.0, episode_slots=None)
    env.reset()
    rewards, durations = [], []
    for actions in ([1, 0], [1, 1], [0, 0], [0, 1]):
        step = env.step(np.array([actions]))
        rewards.append(step.reward[0].tolist())
        durations.append(float(step.duration[0]))
    assert rewards == [[1, 1], [-1, -1], [0, 0], [1, 1]]
    assert durations == [124, 124, 1, 124]
    statistics = {name: values[0] for name, values in env.statistics().items()}
    assert (statistics["slots"], statistics["decisions"]) == (373, 4)
    assert (statistics["busy_periods"], statistics["collisions"], statistics["success_slots"]) == (3, 1, 240)
    assert statistics["transmissions"].tolist() == [2, 2]
    assert statistics["collided_transmissions"].tolist() == [1, 1]
    assert statistics["successes"].tolist() == [1, 1]
    assert statistics["delay_slots"].tolist() == [120, 124 + 124 + 1 + 120]
    # Seen at the end: a success, which station 1 sent; its delay is the 4 slots of DIFS, that of station 0 373 - 120.
    delays = np.array([373 - 120, 4])
    expected = [[0, 0, 1, 0, 1, 0, delays[0] / delays.sum(), 1], [0, 0, 1, 0, 0, 1, delays[1] / delays.sum(), 1]]
    np.testing.assert_allclose(step.obs[0], expected, atol=1e-6)


@given(
    delay=st.integers(0, 2000),
    others=st.integers(0, 20_000),
    growth=st.sampled_from([1, 2, 3, 8, 14]),
    slots=st.integers(0, 300),
)
@example(delay=0, others=0, growth=3, slots=5)
def test_the_closed_form_of_the_delay_penalty_is_its_sum(delay: int, others: int, growth: int, slots: int) -> None:
    total = delay + others
    brute = sum((delay + s) / (total + growth * s) for s in range(slots) if total + growth * s > 0)
    assert share_sum(float(delay), float(total), float(growth), slots) == pytest.approx(brute, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("d2lt", ["global", "local"])
@pytest.mark.parametrize("saturated", [True, False])
def test_rewards_and_delay_shares_are_those_of_a_slot_by_slot_sum(d2lt: str, saturated: bool) -> None:
    config: dict[str, Any] = {
        "num_stations": 3,
        "d2lt": d2lt,
        "alpha": 0.05,
        "saturated": saturated,
        "arrival_rate": 0.004,
    }
    env = make_env("channel_access", 2, time_step="slot", episode_slots=None, **config)
    step = env.reset(seed=3)
    last = np.zeros((2, 3))  # end of the last success
    for t, actions in enumerate(random_actions(6000, 2, 3, tau=0.3)):
        shares, queues = brute_shares(t, last, d2lt), columns(env, step.obs, "queue")[..., 0]
        np.testing.assert_allclose(columns(env, step.obs, "d2lt")[..., 0], shares, atol=1e-6)
        cost = shares * queues
        before, collisions = env.statistics()["successes"], env.statistics()["collisions"]
        step = env.step(actions * step.acting)
        succeeded = env.statistics()["successes"] > before
        last[succeeded] = t + 1
        collided = env.statistics()["collisions"] > collisions
        event = succeeded.any(1) * 1.0 - collided
        np.testing.assert_allclose(step.cost, cost, atol=2e-6)
        np.testing.assert_allclose(step.reward, event[:, None] - 0.05 * cost, atol=2e-6)


def brute_shares(now: int, last_success: npt.NDArray[np.float64], d2lt: str) -> npt.NDArray[np.float64]:
    delays = now - last_success
    if d2lt == "global":
        totals = delays.sum(1, keepdims=True)
    else:
        others = np.stack([np.delete(delays, i, axis=1).min(1) for i in range(delays.shape[1])], axis=1)
        totals = delays + others
    return delays / np.where(totals > 0, totals, 1)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"alpha": 0.2, "d2lt": "local", "difs_slots": 0},
        {"saturated": False, "arrival_rate": 0.001, "queue_capacity": 3},
        {"saturated": False, "arrival_rate": [0.0005, 0.0, 0.02], "retry_limit": 2, "countdown": "bianchi"},
    ],
)
def test_slot_steps_are_the_same_process_as_decision_steps(config: dict[str, Any]) -> None:
    whole = {}
    for time_step in ("slot", "decision"):
        env = make_env("channel_access", 2, num_stations=3, time_step=time_step, episode_slots=30_000, **config)
        rollout = Rollout(env, make_policy("csma_ca", env), seed=1)
        finals: dict[int, dict[str, npt.NDArray[Any]]] = {}
        while len(finals) < 2:
            final = rollout.advance().final
            if final is not None:
                for row, b in enumerate(final.copies):
                    finals.setdefault(int(b), {name: values[row] for name, values in final.statistics.items()})
        whole[time_step] = finals
    for b in range(2):
        by_slot, by_decision = whole["slot"][b], whole["decision"][b]
        assert by_slot["successes"].sum() > 20
        # With all queues empty, decision steps go on to the next packet, and a time limit may fall in between.
        for name in by_slot.keys() - {"decisions", "slots", "arrived_packets", "reward"}:
            np.testing.assert_array_equal(by_slot[name], by_decision[name], err_msg=name)
        np.testing.assert_allclose(by_slot["reward"], by_decision["reward"], rtol=1e-3, atol=0.05)


def test_history_and_rank_tell_what_happened() -> None:
    env = make_env("channel_access", num_stations=3, history=3, rank=True, episode_slots=None)
    env.reset()
    events: list[tuple[int, list[int], int]] = []  # newest first: outcome, who sent, slots
    since: list[set[int]] = [set(), set(), set()]  # who succeeded since each station's last success
    time, last = 0, [0, 0, 0]
    for actions in random_actions(500, 1, 3, tau=0.3):
        step = env.step(actions)
        sent = actions[0].tolist()
        outcome = [IDLE, SUCCESS, COLLISION, COLLISION][sum(sent)]
        if outcome == IDLE and events and events[0][0] == IDLE:
            events[0] = (IDLE, sent, events[0][2] + 1)
        elif not (outcome == IDLE and not events):  # the beginning counts as idle
            events.insert(0, (outcome, sent, 1 if outcome == IDLE else PACKET + DIFS))
        if outcome == SUCCESS:
            winner = sent.index(1)
            since = [others | {winner} for others in since]
            since[winner] = set()
            last[winner] = time + PACKET
        heard = time + (1 if outcome == IDLE else PACKET)  # an event is over before DIFS begins
        delays = heard - np.array(last)
        time += int(step.duration[0])
        order = [len(others - {i}) for i, others in enumerate(since)]
        np.testing.assert_allclose(columns(env, step.obs, "rank")[0, :, 0], np.array(order) / 2, atol=1e-6)
        window = columns(env, step.obs, "history")[0].reshape(3, 3, 6)
        for k, (kind, senders, slots) in enumerate(events[:3]):
            one_hot = [kind == IDLE, kind == SUCCESS, kind == COLLISION]
            for i in range(3):
                assert window[i, k, :4].tolist() == [*one_hot, senders[i]]
                assert window[i, k, 4] == pytest.approx(min(slots / (PACKET + DIFS), 1.0))
        np.testing.assert_allclose(window[:, 0, 5], delays / max(delays.sum(), 1), atol=1e-6)


def test_literal_slots_show_the_last_slot_which_after_difs_is_idle() -> None:
    env = make_env("channel_access", num_stations=4, channel_state="slot", episode_slots=None)
    env.reset()
    for actions in random_actions(300, 1, 4, tau=0.3):
        step = env.step(actions)
        assert (columns(env, step.obs, "channel_state")[..., IDLE] == 1).all()
        assert (columns(env, step.obs, "previous_action")[..., 0] == 1).all()


def test_below_saturation_the_offered_load_is_carried() -> None:
    config = {"num_stations": 4, "saturated": False, "arrival_rate": 0.0008, "episode_slots": None}
    evaluation = evaluate("csma_ca", "channel_access", config, num_envs=64, steps=20_000, warmup_steps=1000)
    # The offered load is a count of about 100,000 Poisson arrivals: its relative standard deviation is .3 %.
    assert evaluation.statistics["successes"].sum() > 50_000
    assert evaluation.metrics()["throughput_ratio"]["mean"] == pytest.approx(4 * 0.0008 * PACKET, rel=0.02)
    assert evaluation.statistics["dropped_packets"].sum() == 0


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_stations_delay_is_pollaczek_and_khinchines(load: float) -> None:
    # M/D/1 with service 124; an arrival at an idle server waits half a slot for the next slot's begin, and of the service
    # only the packet, not DIFS, belongs to the delay.
    service = PACKET + DIFS
    config = {
        "num_stations": 1,
        "saturated": False,
        "arrival_rate": load / service,
        "queue_capacity": 1000,
        "episode_slots": None,
    }
    evaluation = evaluate("tdma", "channel_access", config, num_envs=256, steps=4000, warmup_steps=1000)
    delay = evaluation.metrics()["mean_delay_ms"]["mean"] * 1000 / 9
    wait = load * service / (2 * (1 - load))
    assert delay == pytest.approx(0.5 + wait + PACKET, rel=0.01)


def test_a_full_queue_drops_what_it_cannot_hold() -> None:
    config: dict[str, Any] = {
        "num_stations": 2,
        "saturated": False,
        "arrival_rate": 0.02,
        "queue_capacity": 5,
        "episode_slots": None,
    }
    env = make_env("channel_access", 16, **config)
    rollout = Rollout(env, make_policy("tdma", env), seed=0)
    for _ in range(3000):
        step = rollout.advance()
    statistics = env.statistics()
    queued = np.rint(columns(env, step.obs, "queue")[..., 0] * 5)
    np.testing.assert_array_equal(
        statistics["arrived_packets"], statistics["successes"] + statistics["dropped_packets"] + queued
    )
    # Overloaded almost fivefold, the server never idles: what is served in a slot is 1 / 124.
    lost = statistics["dropped_packets"].sum() / statistics["arrived_packets"].sum()
    assert lost == pytest.approx(1 - 1 / (124 * 2 * 0.02), abs=0.01)


def test_the_retry_limit_drops_the_packet_after_so_many_retries() -> None:
    env = make_env("channel_access", num_stations=2, retry_limit=3, episode_slots=None)
    env.reset()
    for _ in range(41):
        env.step(np.ones((1, 2), np.int64))
    statistics = env.statistics()
    assert statistics["dropped_packets"].tolist() == [[41 // 4, 41 // 4]]
    assert statistics["successes"].sum() == 0


def test_stations_may_have_rates_of_their_own() -> None:
    rates = [0.0, 0.0004, 0.0016]
    config = {"num_stations": 3, "saturated": False, "arrival_rate": rates, "episode_slots": None}
    evaluation = evaluate("csma_ca", "channel_access", config, num_envs=32, steps=10_000)
    measured = evaluation.statistics["successes"].sum(0) / evaluation.statistics["slots"].sum()
    np.testing.assert_allclose(measured, rates, rtol=0.05)
    assert evaluation.statistics["transmissions"][:, 0].sum() == 0


@pytest.mark.parametrize("config", [{}, {"saturated": False, "history": 2, "episode_slots": 3000}])
def test_a_copy_does_not_depend_on_how_many_run_beside_it(config: dict[str, Any]) -> None:
    runs = []
    for num_envs in (2, 5):
        env = make_env("channel_access", num_envs, num_stations=4, **config)
        rollout = Rollout(env, make_policy("csma_ca", env), seed=7)
        steps = []
        for _ in range(400):
            step = rollout.advance()
            steps.append([step.obs[:2].copy(), step.reward[:2].copy(), step.duration[:2].copy()])
        runs.append(steps)
    for few, many in zip(*runs, strict=True):
        for a, b in zip(few, many, strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_episode_is_truncated_at_its_first_decision_after_the_limit() -> None:
    env = make_env("channel_access", 3, num_stations=2, episode_slots=1000)
    first = env.reset(seed=1).obs.copy()
    ends = 0
    for actions in random_actions(600, 3, 2, tau=0.3):
        step = env.step(actions)
        assert not step.terminated.any()
        if step.final is None:
            assert not step.truncated.any()
            continue
        ends += len(step.final.copies)
        np.testing.assert_array_equal(np.flatnonzero(step.truncated), step.final.copies)
        slots = step.final.statistics["slots"]
        assert ((slots >= 1000) & (slots - step.duration[step.final.copies] < 1000)).all()
        np.testing.assert_array_equal(step.obs[step.final.copies], first[step.final.copies])
        assert (env.statistics()["slots"][step.final.copies] == 0).all()
        assert (step.final.obs != step.obs[step.final.copies]).any(axis=(1, 2)).all()
        assert step.final.acting.all() and step.final.action_mask.all()
    assert ends > 20


def test_illegal_attempts_are_counted_and_not_executed() -> None:
    config: dict[str, Any] = {"num_stations": 2, "saturated": False, "arrival_rate": [0.01, 0.0], "time_step": "slot"}
    env = make_env("channel_access", **config)
    step = env.reset()
    forbidden = 0
    for _ in range(2000):
        forbidden += int((~step.action_mask[..., 1]).sum())
        step = env.step(np.ones((1, 2), np.int64))
    statistics = env.statistics()
    assert statistics["illegal_actions"].sum() == forbidden > 0
    assert statistics["transmissions"][0, 1] == 0
    strict = make_env("channel_access", strict=True, **config)
    strict.reset()
    with pytest.raises(UserError, match="station_1"):
        strict.step(np.array([[0, 1]]))


def test_the_state_holds_every_stations_block_and_the_last_event() -> None:
    env = make_env("channel_access", 2, num_stations=3, episode_slots=None)
    env.reset()
    step: EnvStep = env.step(np.array([[1, 0, 0], [1, 1, 0]]))
    local, state = env.local_state(), env.state()
    np.testing.assert_array_equal(state[:, :-4], local.reshape(2, -1))
    np.testing.assert_array_equal(state[:, -4:], [[0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(local[..., 0], columns(env, step.obs, "d2lt")[..., 0], atol=1e-6)
    assert local[1, :, 2].tolist() == [1 / 16, 1 / 16, 0]  # backoff stage / 16
    assert local[:, :, 3].tolist() == [[1, 0, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_stations", 0),
        ("num_stations", "many"),
        ("packet_slots", 0),
        ("arrival_rate", -1.0),
        ("countdown", "stop"),
        ("history", 65),
        ("alpha", float("nan")),
        ("difs", 4),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_is_allowed(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        ChannelAccessConfig.parse({field: value})
    assert (error.value.owner, error.value.field) == ("channel_access", field)
    assert repr(value) in str(error.value) and error.value.allowed


def test_rates_must_be_one_per_station_and_not_all_zero() -> None:
    for rate in ([0.1, 0.1], 0.0):
        with pytest.raises(ConfigError, match="arrival_rate"):
            ChannelAccessConfig.parse({"num_stations": 3, "saturated": False, "arrival_rate": rate})


def test_the_delay_penalty_weighs_alike_for_any_number_of_stations_unless_told() -> None:
    assert ChannelAccessConfig(num_stations=8).delay_weight == pytest.approx(0.02)
    assert ChannelAccessConfig(num_stations=2).delay_weight == pytest.approx(0.005)
    assert ChannelAccessConfig(num_stations=2, alpha=0.05).delay_weight == 0.05
