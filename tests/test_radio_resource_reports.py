"""What users report in radio_resource, and that those who are told powers know what ITLinQ knows."""

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rllib_wireless.envs import make_env, make_policy
from rllib_wireless.envs.base import ObsField
from rllib_wireless.envs.radio_resource import RadioResource
from rllib_wireless.policies import Rollout
from rllib_wireless.testing import check_env

NAME = "radio_resource"
Floats = npt.NDArray[np.float64]
SHORT: dict[str, Any] = {"episode_slots": 40, "warmup_slots": 5}
TRAFFIC: dict[str, Any] = {"arrival_rate_hz": 100.0, "packet_bytes": 5000}
FEW: dict[str, Any] = {"num_users": 7, "num_access_points": 3}
POWERS: dict[str, Any] = {"reports": "powers", **SHORT}


def rollout(num_envs: int = 20, rule: str = "random", **config: Any) -> Rollout:
    env = make_env(NAME, num_envs, **config)
    return Rollout(env, make_policy(rule, env), seed=3)


def network_of(run: Rollout) -> RadioResource:
    assert isinstance(run.env, RadioResource)
    return run.env


def columns(fields: tuple[ObsField, ...], name: str) -> slice:
    """Where a field is in an observation."""
    start = 0
    for field in fields:
        if field.name == name:
            return slice(start, start + field.size)
        start += field.size
    raise AssertionError(f"no field {name} in {[f.name for f in fields]}")


@pytest.mark.parametrize("config", [FEW, {**FEW, "area_m": 100.0}, TRAFFIC, {"preset": "office", "num_users": 20}])
def test_powers_are_those_measured_at_the_best_users(config: dict[str, Any]) -> None:
    """By access point that sent them, then by user; zeros where an access point has fewer users."""
    run = rollout(**{**POWERS, **config})
    env, absent = network_of(run), 0
    where = columns(env.obs_fields, "power")
    for _ in range(45):
        network = env.network
        decibel = np.clip(10 * np.log10(network.measured), -20, 90) / 40
        for b in range(env.num_envs):
            for i, ranked in enumerate(network.ranked[b]):
                expected = np.where(ranked >= 0, decibel[b][:, ranked], 0.0)
                absent += int((ranked < 0).sum())
                np.testing.assert_allclose(run.step.obs[b, i, where], expected.ravel(), atol=1e-6)
        run.advance()
    assert absent > 0


def test_the_observed_sinr_follows_from_the_powers() -> None:
    run = rollout(**POWERS)
    env = network_of(run)
    n, top = len(env.agents), env.config.top_users
    for _ in range(20):
        obs = run.step.obs.astype(np.float64)
        power = 10 ** (4 * obs[..., columns(env.obs_fields, "power")].reshape(-1, n, n, top))
        own = power[:, np.arange(n), np.arange(n)]
        sinr = np.clip(10 * np.log10(own / (1 + power.sum(2) - own)), -20, 60) / 40
        present = run.step.action_mask[..., 1:]
        np.testing.assert_allclose(obs[..., columns(env.obs_fields, "sinr")][present], sinr[present], atol=1e-3)
        run.advance()


@pytest.mark.parametrize("config", [{}, TRAFFIC])
def test_reports_change_nothing_but_what_is_seen(config: dict[str, Any]) -> None:
    """Equal actions bring equal drops and rewards, and what is observed anyway comes first and is the same."""
    plain, more = rollout(**SHORT, **config), rollout(**POWERS, **config)
    width = plain.step.obs.shape[-1]
    assert "power" not in [f.name for f in plain.env.obs_fields]
    for _ in range(85):
        np.testing.assert_array_equal(more.step.obs[..., :width], plain.step.obs)
        np.testing.assert_array_equal(more.step.reward, plain.step.reward)
        plain.advance()
        more.advance()
        np.testing.assert_array_equal(more.actions, plain.actions)


@pytest.mark.parametrize(
    "config", [{}, {**TRAFFIC, "mean_session_slots": 20.0}, FEW, {"preset": "office", "num_users": 20}]
)
def test_it_keeps_the_promises_of_every_environment(config: dict[str, Any]) -> None:
    check_env(partial(make_env, NAME, **{**POWERS, **config}), num_steps=90)


def test_an_access_point_that_is_told_everything_can_do_what_itlinq_does() -> None:
    """The rule, worked out from the observation of any one access point."""
    run = rollout(rule="itlinq", sharing_radius=1, observation="full", **POWERS)
    env = network_of(run)
    n, top = len(env.agents), env.config.top_users
    switched_off = 0
    for _ in range(30):
        views = [seen_by(env, run.step.obs.astype(np.float64), i) for i in range(n)]
        run.advance()
        for power, weight in views:
            for b in range(env.num_envs):
                expected = itlinq(power[b].reshape(n, n, top)[..., 0], weight[b].reshape(n, top)[:, 0])
                np.testing.assert_array_equal(run.actions[b], expected)
        switched_off += int((run.actions == 0).sum())
    assert switched_off > 100


def seen_by(env: RadioResource, obs: Floats, agent: int) -> tuple[Floats, Floats]:
    """Powers [B, N, ...] over noise and weights [B, N, top] of all access points, as one of them sees them."""
    found = []
    order = [agent, *(j for j in range(len(env.agents)) if j != agent)]
    for name, decades in (("power", 4), ("weight", 1)):
        names = [name, *(f"neighbour_{k}_{name}" for k in range(1, len(order)))]
        blocks = [obs[:, agent, columns(env.obs_fields, block)] for block in names]
        found.append(10 ** (decades * np.stack(blocks, axis=1)[:, np.argsort(order)]))
    return found[0], found[1]


def itlinq(power: Floats, weight: Floats) -> list[int]:
    """Actions by powers [user's access point, sender] at the best users, and those users' weights; 10 dB and .3."""
    own = power.diagonal()
    ratio = weight * np.log2(1 + own / (1 + power.sum(1) - own))
    on: list[int] = []
    for i in np.argsort(-ratio):
        strongest = max((max(power[i, k], power[k, i]) for k in on), default=0.0)
        if strongest <= 10 * own[i] ** 0.3:
            on.append(int(i))
    return [int(i in on) for i in range(len(power))]


def test_neighbours_show_powers_only_where_they_show_all() -> None:
    def shared(form: str) -> set[str]:
        fields = make_env(NAME, 1, sharing_radius=1, observation=form, **POWERS).obs_fields
        return {f.name.removeprefix("neighbour_1_") for f in fields if f.name.startswith("neighbour_1_")}

    assert shared("full") == {"there", "sinr", "weight", "power"}
    assert shared("compressed") == {"there", "weight"}
