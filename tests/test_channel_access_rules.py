"""Backoff rules against numbers that do not come from this package: Monte Carlo tables, Bianchi's model, closed forms."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import brentq

from rllib_wireless.benchmarks.simulator import PlainCsmaCa, PlainSlots, simulate_plain
from rllib_wireless.envs import env_spec, make_env, make_policy
from rllib_wireless.envs.channel_access.event_kernel import simulate
from rllib_wireless.envs.channel_access.metrics import collision_probability, collision_rate, throughput_ratio
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.policies import Rollout, evaluate

PACKET, DIFS = 120, 4
WINDOWS = {"ac_vo": (7, 15), "ac_vi": (15, 31), "ac_be": (31, 1023), "csma_ca": (7, 1023)}

# Both sides are samples: 30,000 busy periods there, of which three standard deviations are up to .008, and more here.
MONTE_CARLO = 0.012


def reference(name: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / "reference" / name).open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.mark.parametrize("rule", WINDOWS)
@pytest.mark.parametrize("countdown", ["freeze", "bianchi"])
def test_rules_reach_the_monte_carlo_tables(rule: str, countdown: str) -> None:
    rows = [r for r in reference("backoff_rules.csv") if (r["rule"], r["countdown"]) == (rule, countdown)]
    assert [int(row["num_stations"]) for row in rows] == list(range(2, 15))
    for row in rows:
        config = {"num_stations": int(row["num_stations"]), "countdown": countdown}
        metrics = evaluate(rule, "channel_access", config, num_envs=64, steps=3000, warmup_steps=500).metrics()
        for name in ("throughput_ratio", "collision_probability", "collision_rate"):
            if row[name]:
                assert metrics[name]["mean"] == pytest.approx(float(row[name]), abs=MONTE_CARLO), (config, name)


@pytest.mark.parametrize("rule", WINDOWS)
def test_bianchi_countdown_reaches_bianchis_fixed_point(rule: str) -> None:
    # Bianchi takes the stations for independent, which costs up to .011 in throughput and .018 in collision probability.
    for n in range(2, 15):
        statistics = simulate(rule, {"num_stations": n, "countdown": "bianchi"}, busy_periods=3000, num_envs=64)
        throughput, probability = bianchi(n, *WINDOWS[rule])
        assert throughput_ratio(statistics) == pytest.approx(throughput, abs=0.012)
        assert collision_probability(statistics) == pytest.approx(probability, abs=0.02)


def bianchi(n: int, cw_min: int, cw_max: int) -> tuple[float, float]:
    """Throughput ratio and collision probability of Bianchi (JSAC 2000) with endless retries."""
    window = cw_min + 1
    stages = int(np.log2((cw_max + 1) / window))

    def access(p: float) -> float:
        return float(2 / (1 + window + p * window * sum((2 * p) ** i for i in range(stages))))

    p = brentq(lambda p: p - (1 - (1 - access(p)) ** (n - 1)), 0.0, 1.0)
    tau = access(p)
    idle, success = (1 - tau) ** n, n * tau * (1 - tau) ** (n - 1)
    return PACKET * success / (idle + (1 - idle) * (PACKET + DIFS)), p


@pytest.mark.parametrize("countdown", ["freeze", "bianchi"])
@pytest.mark.parametrize("fixed_backoff", [3, 7, 15])
def test_eca_becomes_collision_free_with_the_closed_forms_throughput(countdown: str, fixed_backoff: int) -> None:
    # A counter that busy periods leave alone admits V stations into the cycle, one that they decrement V + 1.
    capacity = fixed_backoff + (countdown == "bianchi")
    for n in range(2, min(capacity, 14) + 1):
        statistics = simulate(
            "csma_eca",
            {"num_stations": n, "countdown": countdown},
            {"cw_min": 2 * fixed_backoff + 1},
            busy_periods=20 * n,
            warmup=500_000,
            num_envs=4,
        )
        idle = fixed_backoff - (n - 1) * (countdown == "bianchi")
        assert collision_rate(statistics) == 0.0
        assert throughput_ratio(statistics) == pytest.approx(n * PACKET / (n * (PACKET + DIFS) + idle), abs=1e-4)


def test_eca_beyond_its_capacity_reaches_the_monte_carlo_table() -> None:
    # Collision-free stretches make those single runs vary more than backoff does.
    for row in reference("csma_eca.csv"):
        config = {"num_stations": int(row["num_stations"]), "countdown": row["countdown"]}
        params = {"cw_min": 2 * int(row["fixed_backoff"]) + 1}
        statistics = simulate("csma_eca", config, params, busy_periods=30_000, warmup=5_000, num_envs=8)
        assert throughput_ratio(statistics) == pytest.approx(float(row["throughput_ratio"]), abs=0.015)
        assert collision_probability(statistics) == pytest.approx(float(row["collision_probability"]), abs=0.025)


@pytest.mark.parametrize("difs", [0, 4])
def test_tdma_fills_the_channel_but_for_difs(difs: int) -> None:
    metrics = evaluate(
        "tdma", "channel_access", {"num_stations": 5, "difs_slots": difs}, num_envs=2, steps=500
    ).metrics()
    assert metrics["throughput_ratio"]["mean"] == PACKET / (PACKET + difs)
    assert metrics["collision_rate"]["mean"] == 0.0
    assert metrics["short_term_fairness"]["mean"] == 1.0


@pytest.mark.parametrize("rule", ["ac_vo", "csma_ca", "csma_eca"])
@pytest.mark.parametrize(
    "config", [{}, {"countdown": "bianchi", "retry_limit": 3, "collision_slots": 30, "queue_capacity": 3}]
)
def test_the_event_kernel_goes_through_the_simulators_events(rule: str, config: dict[str, Any]) -> None:
    config = {"num_stations": 6, **config}
    jumped = simulate(rule, config, busy_periods=700, num_envs=3, seed=5)
    for b, stepped in stepped_statistics(rule, config, busy_periods=700, num_envs=3, seed=5):
        for name, values in jumped.items():
            np.testing.assert_array_equal(values[b], stepped[name], err_msg=name)


def stepped_statistics(
    rule: str, config: dict[str, Any], busy_periods: int, num_envs: int, seed: int
) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]]]]:
    """Every copy's statistics as they are after a number of busy periods."""
    env = make_env("channel_access", num_envs, episode_slots=None, **config)
    rollout = Rollout(env, make_policy(rule, env), seed)
    waiting = set(range(num_envs))
    while waiting:
        rollout.advance()
        statistics = env.statistics()
        for b in sorted(waiting):
            if statistics["busy_periods"][b] == busy_periods:
                yield b, {name: values[b] for name, values in statistics.items()}
                waiting.remove(b)


def test_the_event_kernel_counts_nothing_of_its_warmup() -> None:
    whole, first, rest = (
        simulate("csma_ca", {"num_stations": 4}, busy_periods=count, warmup=skipped)
        for count, skipped in ((900, 0), (400, 0), (500, 400))
    )
    for name in ("slots", "busy_periods", "collisions", "transmissions", "successes", "delay_slots"):
        np.testing.assert_array_equal(whole[name], first[name] + rest[name], err_msg=name)


@pytest.mark.parametrize(
    ("rule", "config", "params"),
    [
        ("tdma", {}, {}),
        ("csma_ca", {"saturated": False}, {}),
        ("csma_ca", {"num_stations": 0}, {}),
        ("csma_ca", {}, {"cw_min": 31, "cw_max": 15}),
        ("csma_ca", {}, {"cw_min": [7, 15]}),
    ],
)
def test_the_event_kernel_refuses_what_it_cannot_simulate(
    rule: str, config: dict[str, Any], params: dict[str, Any]
) -> None:
    with pytest.raises(UserError):
        simulate(rule, config, params, busy_periods=1)


def test_plain_python_csma_ca_agrees() -> None:
    # 10,000 busy periods of each of three seeds: the standard deviation of the mean is about .003.
    measured = []
    for seed in range(3):
        counts = simulate_plain(PlainSlots(5), PlainCsmaCa(5, seed=seed), 200_000)
        measured.append(PACKET * counts["successes"] / counts["slots"])
    statistics = simulate("csma_ca", {"num_stations": 5}, busy_periods=3000, num_envs=64)
    assert np.mean(measured) == pytest.approx(throughput_ratio(statistics), abs=0.012)


def test_every_station_may_have_its_own_window() -> None:
    env = make_env("channel_access", 8, num_stations=3)
    rollout = Rollout(env, make_policy("csma_ca", env, cw_min=[7, 31, 127], cw_max=[7, 31, 127]), seed=0)
    for _ in range(3000):
        rollout.advance()
    sent = env.statistics()["transmissions"].sum(0)
    assert sent[0] > 2 * sent[1] > 4 * sent[2] > 0


def test_a_wrong_window_names_field_value_and_what_is_allowed() -> None:
    env = make_env("channel_access", num_stations=3)
    for params in ({"cw_min": [7, 15]}, {"cw_max": 3}, {"cw_min": -1}, {"window": 7}):
        with pytest.raises(ConfigError) as error:
            make_policy("csma_ca", env, **params)
        assert error.value.field == next(iter(params)) and error.value.allowed


def test_only_tdma_is_privileged() -> None:
    rules = env_spec("channel_access").rules
    assert [name for name, rule in rules.items() if rule.privileged] == ["tdma"]
