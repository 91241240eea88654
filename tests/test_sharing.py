"""What agents are shown of others, in every environment."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_wireless.data import Behaviour, collect, load_dataset
from rllib_wireless.data.sharing import agent_rows
from rllib_wireless.data.sharing_graph import select_sharing_graph
from rllib_wireless.envs import env_names, make_env
from rllib_wireless.envs.sharing import SharingEnv
from rllib_wireless.policies.evaluation import Rollout, resolve_policy

SMALL: dict[str, dict[str, Any]] = {
    "channel_access": {"num_stations": 4, "arrival_rate": 0.002, "saturated": False, "episode_slots": 3_000},
    "radio_resource": {"num_access_points": 4, "num_users": 8, "episode_slots": 20, "warmup_slots": 10},
    "task_offloading": {"num_devices": 4, "episode_slots": 30},
    "production_scheduling": {"plant": "grid_3x3", "products": "A*2"},
}
RULE = {
    "channel_access": "csma_ca",
    "radio_resource": "random",
    "task_offloading": "random",
    "production_scheduling": "uniform",
}


def build(name: str, num_envs: int = 3, **config: Any) -> SharingEnv:
    env = make_env(name, num_envs, **{**SMALL[name], **config})
    assert isinstance(env, SharingEnv)
    return env


def test_every_environment_can_share() -> None:
    assert set(SMALL) == set(env_names())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("form", ["full", "compressed"])
def test_agents_see_their_own_and_behind_it_what_neighbours_share(name: str, form: str, tmp_path: Path) -> None:
    """Along a ring given as a file, in steps and in final steps, against a plain loop over local states."""
    agents, width = build(name).agents, sum(f.size for f in build(name).local_fields)
    n = len(agents)
    ring = {agent: [agents[(i + 1) % n]] for i, agent in enumerate(agents)}
    (tmp_path / "ring.json").write_text(json.dumps(ring))
    env = build(name, sharing_graph=str(tmp_path / "ring.json"), observation=form)
    plain = build(name, sharing_radius=0)
    shared = [
        k
        for k, f in enumerate(f for f in env.local_fields for _ in range(f.size))
        if f.shared == "compressed" or (form == "full" and f.shared == "full")
    ]
    assert 0 < len(shared) <= width
    rollout = Rollout(env, resolve_policy(RULE[name], env), seed=5)
    alone = Rollout(plain, resolve_policy(RULE[name], plain), seed=5)
    ends = 0
    for _ in range(150):
        pairs = [(rollout.step.obs, alone.step.obs, env.local_state())]
        if rollout.step.final is not None and alone.step.final is not None:
            pairs.append((rollout.step.final.obs, alone.step.final.obs, rollout.step.final.local_state))
            ends += 1
        for seen, own, local in pairs:
            assert seen.shape[-1] == own.shape[-1] + 1 + len(shared) == env.observation_space.shape[0]
            np.testing.assert_array_equal(seen[..., : own.shape[-1]], own)
            for i in range(n):
                np.testing.assert_array_equal(seen[:, i, own.shape[-1]], 1.0)
                np.testing.assert_array_equal(seen[:, i, own.shape[-1] + 1 :], local[:, (i + 1) % n][:, shared])
            assert env.observation_space.contains(seen[0, 0])
        rollout.advance()
        alone.advance()
        np.testing.assert_array_equal(rollout.actions, alone.actions)
    assert ends > 0 or name == "production_scheduling"


@pytest.mark.parametrize("name", SMALL)
def test_one_log_serves_every_graph(name: str, tmp_path: Path) -> None:
    """Rows built from the log of agents that share nothing are those that agents who share would have written."""
    wide: dict[str, Any] = {"sharing_radius": 1, "observation": "full"}
    for folder, config in (("plain", {"sharing_radius": 0}), ("wide", wide)):
        collect(name, {**SMALL[name], **config}, [Behaviour(RULE[name])], 400, tmp_path / folder, num_envs=4, seed=2)
    env = build(name, **wide)
    plain, live = load_dataset(tmp_path / "plain"), load_dataset(tmp_path / "wide")
    for agent, rows in live.rows.items():
        built = agent_rows(plain, agent, env)
        for column, values in rows.items():
            np.testing.assert_array_equal(built[column], values, err_msg=f"{agent} {column}")


def test_the_station_that_waits_longest_is_told_from_logs(tmp_path: Path) -> None:
    """With continuous states, too, agents that tell something are ranked above noise, and the rest is said to be thin."""
    config = {"num_stations": 3}
    collect("channel_access", config, [Behaviour("csma_ca")], 12_000, tmp_path / "log", num_envs=8, seed=1)
    found = select_sharing_graph(tmp_path / "log", rows=1500, permutations=20, seed=0)
    assert set(found.scores) == {"station_0", "station_1", "station_2"}
    assert all(np.isfinite(score.gap) for scores in found.scores.values() for score in scores)
