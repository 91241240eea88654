"""The RLlib and PettingZoo views show exactly what the simulator does."""

import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Discrete
from pettingzoo.test import parallel_api_test, parallel_seed_test  # type: ignore[import-untyped]
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.utils.pre_checks.env import check_multiagent_environments
from toy_env import SPEC

from rllib_wireless.envs import make_env, registry
from rllib_wireless.envs.pettingzoo import ParallelView
from rllib_wireless.envs.rllib import MultiAgentView
from rllib_wireless.errors import ConfigError

POISSON = {"num_stations": 3, "saturated": False, "arrival_rate": 0.003, "episode_slots": 3000}
SLOTS = {"num_stations": 3, "time_step": "slot", "episode_slots": 300}
CONFIGS = [{"num_stations": 3, "episode_slots": 3000}, POISSON, SLOTS]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._SPECS, "toy", SPEC)


def legal(mask: Any, rng: np.random.Generator) -> int:
    return int(rng.choice(np.flatnonzero(mask)))


def seed_of(seed: int) -> int:
    """What a view seeds its simulator with in the first episode."""
    return int(np.random.default_rng(seed).integers(2**31))


@pytest.mark.parametrize("config", CONFIGS)
def test_rllib_accepts_the_view(config: dict[str, Any]) -> None:
    check_multiagent_environments(MultiAgentView("channel_access", config))


@pytest.mark.parametrize(("name", "config"), [("toy", {}), *[("channel_access", config) for config in CONFIGS]])
def test_only_deciding_agents_are_present_and_get_their_reward_since_the_last_decision(
    name: str, config: dict[str, Any]
) -> None:
    """Against the simulator itself, stepped with the same actions; sums per agent are kept by plain loops."""
    view, env = MultiAgentView(name, config), make_env(name, **config)
    rng = np.random.default_rng(0)
    observations, _ = view.reset(seed=5)
    step = env.reset(seed_of(5))
    owed = {agent: np.zeros(3) for agent in env.agents}
    ended = False
    for _ in range(200):
        for agent, seen in observations.items():
            assert view.observation_spaces[agent].contains(seen)
        actions = {agent: legal(seen["action_mask"], rng) for agent, seen in observations.items()}
        observations, rewards, terminateds, truncateds, infos = view.step(actions)
        row = [[actions.get(agent, 0) for agent in env.agents]]
        while True:
            step = env.step(np.array(row))
            for i, agent in enumerate(env.agents):
                owed[agent] += (step.reward[0, i], step.cost[0, i], step.duration[0])
            if step.final is not None or step.acting[0].any():
                break
            row = [[0] * len(env.agents)]
        shown = step if step.final is None else step.final
        present = [i for i in range(len(env.agents)) if step.final is not None or step.acting[0, i]]
        assert set(observations) == set(rewards) == set(infos) == {env.agents[i] for i in present}
        for i in present:
            agent = env.agents[i]
            np.testing.assert_array_equal(observations[agent]["observations"], shown.obs[0, i])
            np.testing.assert_array_equal(observations[agent]["action_mask"], shown.action_mask[0, i])
            found = (rewards[agent], infos[agent]["cost"], infos[agent]["duration"])
            assert found == pytest.approx(tuple(owed[agent]), abs=1e-5)
            owed[agent] = np.zeros(3)
        assert (terminateds["__all__"], truncateds["__all__"]) == (bool(step.terminated[0]), bool(step.truncated[0]))
        if terminateds["__all__"] or truncateds["__all__"]:
            ended = True
            break
    assert ended


@pytest.mark.parametrize("config", CONFIGS)
def test_rllib_can_keep_the_episode(config: dict[str, Any]) -> None:
    view, rng = MultiAgentView("channel_access", config), np.random.default_rng(0)
    observations, infos = view.reset(seed=0)
    episode = MultiAgentEpisode(observation_space=view.observation_spaces, action_space=view.action_spaces)
    episode.add_env_reset(observations=observations, infos=infos)
    earned = dict.fromkeys(view.agents, 0.0)
    while not episode.is_done:
        actions = {agent: legal(seen["action_mask"], rng) for agent, seen in observations.items()}
        known = set(episode.agent_episodes)
        observations, rewards, terminateds, truncateds, infos = view.step(actions)
        episode.add_env_step(observations, actions, rewards, infos, terminateds=terminateds, truncateds=truncateds)
        for agent in known & rewards.keys():  # what came before an agent's first decision belongs to no transition
            earned[agent] += rewards[agent]
    assert episode.is_truncated
    for agent, part in episode.agent_episodes.items():
        assert part.is_truncated and len(part) > 0
        assert part.get_return() == pytest.approx(earned[agent], abs=1e-6)


def test_an_episode_that_terminates_is_not_truncated() -> None:
    view = MultiAgentView("toy")
    flags = set()
    for seed in range(8):
        view.reset(seed=seed)
        done = False
        while not done:
            _, _, terminateds, truncateds, _ = view.step({})
            done = terminateds["__all__"] or truncateds["__all__"]
        flags.add((terminateds["agent_0"], truncateds["agent_0"]))
    assert flags == {(True, False), (False, True)}


@pytest.mark.parametrize("make", [MultiAgentView, ParallelView])
def test_seeds_decide_episodes_and_those_that_follow(make: Any) -> None:
    def penalties(seed: int) -> list[float]:
        """What waiting costs in 100 steps of three episodes; it depends on when packets arrive."""
        view = make("channel_access", POISSON)
        sums = []
        for episode in range(3):
            view.reset(**({"seed": seed} if episode == 0 else {}))
            sums.append(sum(sum(view.step({})[1].values()) for _ in range(100)))
        return sums

    first, again, other = penalties(1), penalties(1), penalties(2)
    assert first == again != other
    assert len(set(first)) == 3


@pytest.mark.parametrize("make", [MultiAgentView, ParallelView])
def test_a_wrong_configuration_is_refused(make: Any) -> None:
    with pytest.raises(ConfigError, match="channel_access: num_station = 3, but there is no such field"):
        make("channel_access", {"num_station": 3})


@pytest.mark.parametrize("config", CONFIGS)
def test_pettingzoo_accepts_the_view(config: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(ParallelView("channel_access", config), num_cycles=400)
        parallel_seed_test(partial(ParallelView, "channel_access", config), num_cycles=100)


@pytest.mark.parametrize(("name", "config"), [("toy", {}), *[("channel_access", config) for config in CONFIGS]])
def test_the_parallel_view_shows_every_step_of_the_simulator(name: str, config: dict[str, Any]) -> None:
    view, env = ParallelView(name, config), make_env(name, strict=True, **config)
    observations, _ = view.reset(seed=5)
    env.reset(seed_of(5))
    for agent in view.agents:
        space = view.action_space(agent)
        assert isinstance(space, Discrete)
        space.seed(3)
    while view.agents:
        for agent, seen in observations.items():
            assert view.observation_space(agent).contains(seen) and seen["action_mask"].dtype == np.int8
        actions = {a: int(view.action_space(a).sample(mask=observations[a]["action_mask"])) for a in view.agents}
        observations, rewards, terminations, truncations, infos = view.step(actions)
        step = env.step(np.array([[actions[agent] for agent in env.agents]]))
        shown = step if step.final is None else step.final
        for i, agent in enumerate(env.agents):
            np.testing.assert_array_equal(observations[agent]["observation"], shown.obs[0, i])
            np.testing.assert_array_equal(observations[agent]["action_mask"], shown.action_mask[0, i])
            assert (rewards[agent], infos[agent]["cost"]) == (step.reward[0, i], step.cost[0, i])
            assert (terminations[agent], truncations[agent]) == (step.terminated[0], step.truncated[0])
            assert infos[agent]["duration"] == step.duration[0]
        np.testing.assert_array_equal(view.state(), env.state()[0] if step.final is None else step.final.state[0])
