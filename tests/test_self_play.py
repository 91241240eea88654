"""Self-play: observations from events as the simulator makes them, the game read off exact models, and what is learned in it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.client import ClientGroup
from rllib_wireless.algorithms.fedmorl.game import Game, _transition, common_field, read_game
from rllib_wireless.algorithms.fedmorl.layout import Outcomes
from rllib_wireless.algorithms.fedmorl.policy_state import policy_of
from rllib_wireless.algorithms.fedmorl.self_play import SelfPlay
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.statistics import merge_statistics
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel
from rllib_wireless.data.store import client_folders
from rllib_wireless.envs import make_env
from rllib_wireless.errors import UserError
from rllib_wireless.policies import NetworkPolicy
from rllib_wireless.policies.evaluation import evaluate

AGENTS = ("station_0", "station_1", "station_2")
IDLE, BUSY, SUCCESS, COLLISION = range(4)


@pytest.mark.parametrize(
    "config",
    [{}, {"rank": True, "history": 3}, {"d2lt": "local"}, {"difs_slots": 0, "packet_slots": 7}, {"episode_slots": 900}],
)
def test_observations_from_heard_events_are_the_simulator_s(config: dict[str, Any]) -> None:
    real, told = (make_env("channel_access", 4, num_stations=3, **config) for _ in range(2))
    g = np.random.default_rng(0)
    real.reset(1), told.reset(1)
    for _ in range(300):
        actions = (g.random((4, 3)) < 0.3).astype(np.int64)
        step = real.step(actions)
        senders = actions.sum(1)
        heard = told.hear(
            actions, np.choose(np.minimum(senders, 2), [IDLE, SUCCESS, COLLISION]), step.duration.astype(np.int64)
        )
        np.testing.assert_array_equal(heard.obs, step.obs)
        np.testing.assert_array_equal(heard.truncated, step.truncated)
        np.testing.assert_allclose(heard.cost, step.cost, rtol=1e-5)


@pytest.mark.parametrize("config", [{"saturated": False}, {"time_step": "slot"}])
def test_what_is_not_heard_needs_a_simulator(config: dict[str, Any]) -> None:
    env = make_env("channel_access", 1, num_stations=2, **config)
    env.reset()
    with pytest.raises(UserError, match="saturated=True"):
        env.hear(np.zeros((1, 2), np.int64), np.zeros(1, np.int64), np.ones(1, np.int64))


class OneView:
    """What one station sees of others who send with probabilities that its observation tells, exactly."""

    alpha = 0.03
    duration = torch.tensor([1.0, 0.0, 124.0, 110.0])

    def outcomes(self, obs: Tensor) -> Outcomes:
        """The observation is (event one-hot, waiting); others send more after a success."""
        send = (0.05 + 0.2 * obs[:, SUCCESS] + 0.1 * obs[:, 4]).clamp(0.0, 0.9)
        none, one = (1 - send) ** 3, 3 * send * (1 - send) ** 2
        prob = torch.zeros(len(obs), 2, 4)
        prob[:, 0, IDLE], prob[:, 0, SUCCESS], prob[:, 0, COLLISION] = none, one, 1 - none - one
        prob[:, 1, SUCCESS], prob[:, 1, COLLISION] = none, 1 - none
        following = torch.cat([torch.eye(4), torch.zeros(4, 1)], dim=1).expand(len(obs), 2, 4, 5)
        cost = (0.2 + obs[:, 4, None, None]) * self.duration.expand(len(obs), 2, 4)
        reward = torch.tensor([0.0, 0.0, 1.0, -0.5]) - self.alpha * cost
        duration = self.duration.expand_as(prob)
        return Outcomes(prob, reward, cost, duration, torch.zeros_like(prob), following, torch.zeros_like(following))

    def sample(self, obs: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        return obs


def test_the_game_is_read_off_one_agent_s_view() -> None:
    g = torch.Generator().manual_seed(0)
    obs = torch.cat([torch.eye(4)[torch.randint(4, (200,), generator=g)], torch.rand(200, 1, generator=g)], dim=1)
    game = read_game(OneView(), obs, slice(0, 4))
    assert game.first == IDLE
    seen = [IDLE, SUCCESS, COLLISION]
    np.testing.assert_allclose(game.events(3)[:, seen], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], atol=1e-3)
    np.testing.assert_allclose(game.duration[seen], [1.0, 124.0, 110.0], rtol=1e-5)
    np.testing.assert_allclose(game.reward[seen], [0.0, 1.0, -0.5], atol=1e-3)
    assert game.cost_weight == pytest.approx(OneView.alpha, rel=1e-3)


def test_the_transition_is_the_least_squares_one_and_drops_what_is_rare() -> None:
    """On noisy views: as SciPy's bounded least squares finds it from all rows, column after column."""
    random = np.random.default_rng(0)
    truth = np.array([[0.0, 1.0, 0.0], [0.0, 0.1, 0.9], [0.0, 0.0, 1.0]])
    before = random.dirichlet([6.0, 1.0, 0.5], 300)
    after = np.abs(before @ truth + 0.02 * random.standard_normal((300, 3)))
    sums = 1e3 * np.kron(np.eye(3), np.ones(3))
    expected = lsq_linear(
        np.vstack([np.kron(before, np.eye(3)), sums]), np.concatenate([after.ravel(), np.full(3, 1e3)]), (0.0, 1.0)
    )
    np.testing.assert_allclose(_transition(before, after, rare=0.0), expected.x.reshape(3, 3), atol=2e-3)
    np.testing.assert_array_equal(_transition(before, after, rare=0.3), [[0, 1, 0], [0, 0, 1], [0, 0, 1]])


def test_an_environment_without_a_common_event_is_refused() -> None:
    env = make_env("channel_access", 1, num_stations=2)
    assert common_field(env) == slice(0, 4)
    env.obs_fields = env.obs_fields[1:]
    with pytest.raises(UserError, match="one event that all agents hear"):
        common_field(env)


def group(data: Path, state: Path, agents: tuple[str, ...], **settings: Any) -> ClientGroup:
    folders = client_folders(data)
    parsed = FedMORLSettings.parse({"policy_learning": "self_play", "model_hiddens": (16,), **settings})
    return ClientGroup({agent: folders[agent] for agent in agents}, parsed, state, seed=3)


@pytest.mark.parametrize("together", [True, False])
def test_clients_that_play_apart_come_to_one_policy(csma_clients: Path, tmp_path: Path, together: bool) -> None:
    small = {"self_play_updates": 2, "self_play_copies": 4, "self_play_steps": 16, "clone_steps": 2}
    everyone = group(csma_clients, tmp_path / "all", AGENTS, **small)
    statistics = merge_statistics(list(everyone.statistics().values()))
    weights = WorldModel(everyone.layout, statistics, (16,), generator=torch.Generator().manual_seed(0)).weights()
    members = everyone if together else group(csma_clients, tmp_path / "one", AGENTS[1:2], **small)
    members.improve_policies(weights, statistics, 1)
    reference = group(csma_clients, tmp_path / "reference", AGENTS[:1], **small)
    reference.improve_policies(weights, statistics, 1)
    expected = reference.policies(1)["station_0"].network
    for policy in members.policies(1).values():
        for mine, other in zip(policy.network.parameters(), expected.parameters(), strict=True):
            assert torch.equal(mine, other)


class ExactGame(SelfPlay):
    """Three stations on the channel as it is: what is learned in it then owes nothing to a model's errors."""

    def _read(self) -> Game:
        transition = np.zeros((4, 4))
        transition[[IDLE, SUCCESS, COLLISION], [SUCCESS, COLLISION, COLLISION]] = 1.0
        return Game(transition, IDLE, np.array([1.0, 1.0, 124.0, 124.0]), np.array([0.0, 0.0, 1.0, -1.0]), 3 / 400)


def test_stations_learn_to_take_turns(csma_clients: Path, tmp_path: Path) -> None:
    """AC_BE gets .870 here, and a fairness of .95; taking turns without a gap would get .968."""
    clients = group(csma_clients, tmp_path, AGENTS)
    statistics = merge_statistics(list(clients.statistics().values()))
    model = WorldModel(clients.layout, statistics, (16,))
    settings = FedMORLSettings.parse({"self_play_updates": 50, "policy_hiddens": (32,)})
    env = make_env("channel_access", settings.self_play_copies, num_stations=3, episode_slots=40_000)
    network, _ = ExactGame(model, env, settings, gamma=0.999, seed=0).learn()
    state = {f"policy.{name}": p.detach()[0] for name, p in network.named_parameters()}
    state |= {"feature_mean": model.feature_mean, "feature_std": model.feature_std, "shift": torch.zeros(())}
    policy = NetworkPolicy.stack([policy_of(state, agent, clients.layout) for agent in AGENTS])
    found = evaluate(
        policy, "channel_access", {"num_stations": 3}, num_envs=8, steps=2000, warmup_steps=200, seed=1000
    ).metrics()
    assert found["throughput_ratio"]["mean"] > 0.9
    assert found["short_term_fairness"]["mean"] > 0.97
