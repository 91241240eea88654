"""FedMORL's clients: what they send, what they keep, and that both ways of policy learning end where they should."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import fsolve

from rllib_wireless.algorithms.fedmorl.client import ClientGroup, ClientUpdate
from rllib_wireless.algorithms.fedmorl.layout import Layout, Rows
from rllib_wireless.algorithms.fedmorl.planner import lead
from rllib_wireless.algorithms.fedmorl.policy_learning import PolicyLearner
from rllib_wireless.algorithms.fedmorl.policy_state import policy_of
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.stack import Stack
from rllib_wireless.algorithms.fedmorl.statistics import Statistics, client_statistics, merge_statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights, WorldModel
from rllib_wireless.data.collect import Behaviour, collect
from rllib_wireless.data.store import client_folders
from rllib_wireless.envs import ObsField
from rllib_wireless.errors import ConfigError, DataError
from rllib_wireless.policies import NetworkPolicy

AGENTS = ("station_0", "station_1", "station_2")
SMALL: dict[str, Any] = {
    "model_hiddens": (16,),
    "model_batch_size": 64,
    "local_steps": 20,
    "policy_hiddens": (16,),
    "policy_batch_size": 64,
    "policy_steps": 20,
    "clone_steps": 20,
    "planner_anchors": 64,
    "rollout_starts": 64,
    "rollout_horizon": 2,
}
LEARNING = pytest.mark.parametrize("learning", ["planner", "rollout"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """1,200 decisions of three stations, a folder each."""
    out = tmp_path_factory.mktemp("clients") / "data"
    collect("channel_access", {"num_stations": 3}, [Behaviour("csma_ca")], 1200, out, num_envs=4, split="agents")
    return client_folders(out)


class Clients:
    """Groups of clients over one data set, and the global model that they start from."""

    def __init__(self, folders: dict[str, Path], root: Path) -> None:
        self.folders, self.root = folders, root
        everyone = self.group(AGENTS, "everyone")
        self.statistics: Statistics = merge_statistics(list(everyone.statistics().values()))
        generator = torch.Generator().manual_seed(0)
        model = WorldModel(everyone.layout, self.statistics, SMALL["model_hiddens"], generator=generator)
        self.weights: Weights = model.weights()

    def group(self, agents: tuple[str, ...], state: str, **settings: Any) -> ClientGroup:
        parsed = FedMORLSettings.parse({**SMALL, **settings})
        return ClientGroup({a: self.folders[a] for a in agents}, parsed, self.root / state, seed=0)

    def improve(self, group: ClientGroup, iteration: int) -> dict[str, dict[str, float]]:
        return group.improve_policies(self.weights, self.statistics, iteration)


@pytest.fixture
def clients(folders: dict[str, Path], tmp_path: Path) -> Iterator[Clients]:
    yield Clients(folders, tmp_path)


def assert_equal_weights(a: ClientUpdate, b: ClientUpdate) -> None:
    for name, value in a.weights.items():
        np.testing.assert_array_equal(value, b.weights[name])


def assert_equal_policies(a: NetworkPolicy, b: NetworkPolicy) -> None:
    for one, other in zip(a.network.parameters(), b.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("members", [("station_1",), ("station_2", "station_1")])
def test_a_client_s_model_is_the_same_to_the_last_bit_whoever_shares_its_process(
    clients: Clients, members: tuple[str, ...]
) -> None:
    together = clients.group(AGENTS, "a").train_model(clients.weights, clients.statistics, 0)
    apart = clients.group(members, "b").train_model(clients.weights, clients.statistics, 0)
    assert_equal_weights(together["station_1"], apart["station_1"])
    assert together["station_1"].metrics == apart["station_1"].metrics


@LEARNING
@pytest.mark.parametrize("members", [("station_1",), ("station_2", "station_1")])
def test_so_is_its_policy(clients: Clients, members: tuple[str, ...], learning: str) -> None:
    policies = []
    for group in (
        clients.group(AGENTS, "a", policy_learning=learning),
        clients.group(members, "b", policy_learning=learning),
    ):
        for iteration in (1, 2):
            clients.improve(group, iteration)
        policies.append(group.policies(2)["station_1"])
    assert_equal_policies(*policies)


def test_a_round_is_a_pure_function_of_what_came_in(clients: Clients) -> None:
    group = clients.group(AGENTS, "a")
    first = group.train_model(clients.weights, clients.statistics, 3)
    clients.improve(group, 1)
    again = group.train_model(clients.weights, clients.statistics, 3)
    other = group.train_model(clients.weights, clients.statistics, 4)
    for agent in AGENTS:
        assert_equal_weights(first[agent], again[agent])
    assert not np.array_equal(
        first["station_0"].weights["affine.weights.0"], other["station_0"].weights["affine.weights.0"]
    )


def test_a_round_lowers_the_held_out_loss_that_the_next_one_reports(clients: Clients) -> None:
    group, losses, weights = clients.group(AGENTS, "a"), [], clients.weights
    for number in range(4):
        updates = group.train_model(weights, clients.statistics, number)
        losses.append(np.mean([u.metrics["validation_loss"] for u in updates.values()]))
        weights = {n: np.mean([u.weights[n] for u in updates.values()], axis=0, dtype=np.float32) for n in weights}
    assert losses[3] < losses[0] - 0.5


def test_an_update_holds_parameters_and_figures_and_nothing_that_grows_with_the_data(clients: Clients) -> None:
    update = clients.group(AGENTS, "a").train_model(clients.weights, clients.statistics, 0)["station_0"]
    assert set(vars(update)) == {"weights", "num_samples", "metrics"}
    assert {n: w.shape for n, w in update.weights.items()} == {n: w.shape for n, w in clients.weights.items()}
    assert all(isinstance(value, float) for value in update.metrics.values())
    assert isinstance(update.num_samples, int)


@LEARNING
def test_a_process_that_begins_anew_goes_on_to_the_same_bits(clients: Clients, learning: str) -> None:
    whole = clients.group(AGENTS, "a", policy_learning=learning)
    for iteration in (1, 2, 3):
        expected = clients.improve(whole, iteration)
    for iteration in (1, 2, 2, 3):  # the second iteration is asked for twice, as by a driver that was killed
        broken = clients.group(AGENTS, "b", policy_learning=learning)
        found = clients.improve(broken, iteration)
    assert found == expected
    for agent in AGENTS:
        assert_equal_policies(whole.policies(3)[agent], broken.policies(3)[agent])


def test_a_client_that_was_away_goes_on_from_its_own_policy(clients: Clients) -> None:
    group = clients.group(AGENTS, "a")
    clients.improve(group, 1)
    clients.improve(clients.group(("station_0",), "a"), 2)
    clients.improve(clients.group(AGENTS, "a"), 3)
    alone = clients.group(("station_1",), "b")
    clients.improve(alone, 1)
    clients.improve(alone, 3)
    assert_equal_policies(clients.group(AGENTS, "a").policies(3)["station_1"], alone.policies(3)["station_1"])


def test_a_state_is_written_as_a_whole_or_not_at_all(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    group = clients.group(AGENTS, "a")
    clients.improve(group, 1)
    before = group.policies(2)

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            clients.improve(group, 2)
    fresh = clients.group(AGENTS, "a")
    for agent in AGENTS:
        assert_equal_policies(fresh.policies(2)[agent], before[agent])
    clients.improve(fresh, 2)
    undisturbed = clients.group(AGENTS, "b")
    for iteration in (1, 2):
        clients.improve(undisturbed, iteration)
    for agent in AGENTS:
        assert_equal_policies(fresh.policies(2)[agent], undisturbed.policies(2)[agent])


def test_only_the_two_newest_states_are_kept(clients: Clients) -> None:
    group = clients.group(AGENTS, "a")
    for iteration in (1, 2, 3, 4):
        clients.improve(group, iteration)
    assert {p.name for p in (clients.root / "a" / "station_0").iterdir()} == {"3", "4"}


def test_a_client_writes_into_its_own_folder_alone(clients: Clients) -> None:
    clients.improve(clients.group(("station_1",), "a"), 1)
    assert {p.name for p in (clients.root / "a").iterdir()} == {"station_1"}


def test_without_an_iteration_there_is_no_policy(clients: Clients) -> None:
    with pytest.raises(DataError, match="no policy yet"):
        clients.group(AGENTS, "a").policies(5)


@pytest.mark.parametrize(
    ("name", "value"), [("beta", 0.0), ("planner_value", "min"), ("planner_horizon", 0), ("policy_learning", "dreams")]
)
def test_wrong_settings_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        FedMORLSettings.parse({name: value})


# A bandit in the guise of a decision process: what follows has nothing to do with what was done, and hardly counts.
GAIN, SHARE = 0.3, 0.2  # reward of action 1, and how often the data take it
LAYOUT = Layout.from_fields((ObsField("kind", "categorical", 2), ObsField("noise", "continuous")), num_actions=2)


@pytest.fixture(scope="module")
def bandit() -> Rows:
    g = torch.Generator().manual_seed(0)
    rows = 6000
    kind, noise = torch.tensor([1.0, 0.0]).expand(rows, -1), torch.rand(rows, 2, generator=g)
    actions = (torch.rand(rows, generator=g) < SHARE).long()
    return Rows(
        obs=torch.cat([kind, noise[:, :1]], 1),
        actions=actions,
        rewards=GAIN * actions.float(),
        costs=torch.zeros(rows),
        new_obs=torch.cat([kind, noise[:, 1:]], 1),
        duration=torch.ones(rows),
        terminateds=torch.zeros(rows, dtype=torch.bool),
        action_mask=torch.ones(rows, 2, dtype=torch.bool),
    )


def learned_log_odds(bandit: Rows, iterations: int, layout: Layout = LAYOUT, **settings: Any) -> float:
    """log pi(1) / pi(0) of the policy that is learned from the bandit."""
    big = {
        "policy_hiddens": (16,),
        "policy_steps": 400,
        "clone_steps": 400,
        "planner_anchors": 128,
        "policy_batch_size": 256,
        "planner_shift": None,
        "rollout_shift": None,
    }
    parsed = FedMORLSettings.parse({**big, **settings})
    # Given outcome and action the reward is constant: the sums alone make the model exact.
    model = WorldModel(layout, client_statistics(bandit, layout), (8,), generator=torch.Generator().manual_seed(0))
    learner = PolicyLearner(model, Stack([bandit]), parsed, gamma=1e-6)
    states: list[Any] = [None]
    for iteration in range(iterations):
        generators = [[torch.Generator().manual_seed(seed)] for seed in (1, 2, 3 + iteration)]
        states, _ = learner.improve(states, *generators)
    obs = torch.tensor([[1.0, 0.0, 0.1], [1.0, 0.0, 0.5], [1.0, 0.0, 0.9]])
    logits = policy_of(states[0], "bandit", layout).logits(obs[:, None].numpy())
    return float((logits[:, 0, 1] - logits[:, 0, 0]).mean())


def data_log_odds(bandit: Rows) -> float:
    share = bandit.actions.float().mean()
    return float(torch.log(share / (1 - share)))


@pytest.mark.parametrize("beta", [0.15, 0.3, 1.0])
def test_q_weighted_imitation_multiplies_the_data_s_odds_by_exp_of_the_gain(bandit: Rows, beta: float) -> None:
    found = learned_log_odds(bandit, iterations=3, policy_learning="planner", beta=beta)
    assert found - data_log_odds(bandit) == pytest.approx(GAIN / beta, abs=0.15)  # sampling noise of the last steps


@pytest.mark.parametrize("cql_alpha", [0.0, 1.0, 30.0])
def test_conservative_rollouts_end_at_their_fixed_point(bandit: Rows, cql_alpha: float) -> None:
    """At the fixed point no action's gradient is left: logged TD error, imagined TD error, and the conservative term."""
    beta, share = 0.3, float(bandit.actions.float().mean())
    data = np.array([1 - share, share])
    targets = np.array([0.0, GAIN]) / beta + np.log(data)

    def gradient(f: np.ndarray) -> np.ndarray:
        policy = np.exp(f - f.max()) / np.exp(f - f.max()).sum()
        force: np.ndarray = (data + policy) * (f - targets) + cql_alpha * (policy - data)
        return force

    f = fsolve(gradient, targets)
    found = learned_log_odds(bandit, iterations=4, policy_learning="rollout", beta=beta, cql_alpha=cql_alpha)
    assert found == pytest.approx(f[1] - f[0], abs=0.15)


def test_rollouts_learn_the_mean_of_a_noisy_reward_and_not_its_median(bandit: Rows) -> None:
    """Action 1 wins 1 in 57 % of the cases and loses 1 in the others: the mean is .14, the median 1."""
    win = torch.rand(len(bandit.actions), generator=torch.Generator().manual_seed(5)) < 0.57
    noisy = bandit._replace(rewards=torch.where(win, 1.0, -1.0) * bandit.actions)
    mean = float(noisy.rewards[noisy.actions == 1].mean())
    found = learned_log_odds(noisy, iterations=4, policy_learning="rollout", beta=0.2, cql_alpha=0.0)
    assert found - data_log_odds(noisy) == pytest.approx(mean / 0.2, abs=0.25)  # the median would give 5


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.5])
@pytest.mark.parametrize("kind", ["planner", "rollout"])
def test_a_price_of_acting_holds_the_mean_change_of_the_odds(bandit: Rows, kind: str, shift: float) -> None:
    """Whatever acting gains: with one advantage everywhere the mean change is the change."""
    held: dict[str, Any] = {f"{kind}_shift": shift}
    found = learned_log_odds(bandit, iterations=3, policy_learning=kind, **held)
    assert found - data_log_odds(bandit) == pytest.approx(shift, abs=0.15)


@pytest.mark.parametrize("kind", ["planner", "rollout"])
def test_costs_count_with_their_weight(bandit: Rows, kind: str) -> None:
    layout = dataclasses.replace(LAYOUT, has_cost=True)
    costly = bandit._replace(costs=0.2 * bandit.actions.float())
    found = learned_log_odds(
        costly, iterations=4, layout=layout, policy_learning=kind, cost_weight=0.5, cql_alpha=0.0, beta=0.3
    )
    assert found - data_log_odds(bandit) == pytest.approx((GAIN - 0.5 * 0.2) / 0.3, abs=0.15)


def test_the_lead_of_acting_is_the_mean_over_rows_that_leave_a_choice() -> None:
    q = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 9.0], [5.0, 0.0, 0.0]])
    data_policy = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert lead(q, data_policy) == pytest.approx(((1 + 3) / 2 - 0 + (0 - 1)) / 2)
