"""Ensembles of world models: the mixture, the members' disagreement, and what pessimism does to a policy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_world_model import HIDDENS, LAYOUT, draw, stack

from rllib_wireless.algorithms.fedmorl.client import ClientGroup
from rllib_wireless.algorithms.fedmorl.layout import Layout, Rows
from rllib_wireless.algorithms.fedmorl.policy_learning import PolicyLearner
from rllib_wireless.algorithms.fedmorl.policy_state import policy_of
from rllib_wireless.algorithms.fedmorl.settings import FedMORLSettings
from rllib_wireless.algorithms.fedmorl.stack import Stack
from rllib_wireless.algorithms.fedmorl.statistics import client_statistics, merge_statistics
from rllib_wireless.algorithms.fedmorl.uncertainty import PenalisedModel, disagreement
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel
from rllib_wireless.data.collect import Behaviour, collect
from rllib_wireless.data.store import client_folders
from rllib_wireless.envs import ObsField
from rllib_wireless.errors import ConfigError

MEMBERS = 3


def trained(rows: Rows, layout: Layout, members: int, steps: int, batch_size: int = 64) -> WorldModel:
    """The model of one client, each member on minibatches of its own."""
    generator = torch.Generator().manual_seed(0)
    model = WorldModel(layout, client_statistics(rows, layout), HIDDENS, generator=generator, ensemble_size=members)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    own = stack([rows])
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        index = torch.randint(len(rows.actions), (1, members * batch_size), generator=generator)
        loss = torch.stack(list(model.loss(own.take(index)).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model


def alone(model: WorldModel, rows: Rows, layout: Layout, member: int) -> WorldModel:
    """One member as a model of its own."""
    single = WorldModel(layout, client_statistics(rows, layout), HIDDENS)
    single.load_weights({name: value[[member]] for name, value in model.weights().items()})
    return single


@pytest.fixture(scope="module")
def rows() -> Rows:
    return draw(2000, seed=0)


@pytest.fixture(scope="module")
def ensemble(rows: Rows) -> WorldModel:
    return trained(rows, LAYOUT, MEMBERS, steps=60)


def test_the_likelihood_is_that_of_the_members_mixture(ensemble: WorldModel, rows: Rows) -> None:
    members = [alone(ensemble, rows, LAYOUT, e) for e in range(MEMBERS)]
    with torch.no_grad():
        for t in range(20):
            one = stack([rows.slice(t, t + 1)])
            log_p = [-sum(float(v) for v in m.negative_log_likelihood(one).values()) for m in members]
            mixture = sum(float(v) for v in ensemble.negative_log_likelihood(one).values())
            assert mixture == pytest.approx(-np.log(np.mean(np.exp(log_p))), abs=1e-4)


def test_expectations_are_the_means_of_the_members_expectations(ensemble: WorldModel, rows: Rows) -> None:
    obs = rows.obs[:50]
    mixture = ensemble.outcomes(obs)
    members = [alone(ensemble, rows, LAYOUT, e).outcomes(obs) for e in range(MEMBERS)]
    torch.testing.assert_close(mixture.prob.sum(-1), torch.ones(50, 2))
    for name in ("reward", "duration", "terminated"):
        each = torch.stack([(m.prob * getattr(m, name)).sum(-1) for m in members])
        torch.testing.assert_close((mixture.prob * getattr(mixture, name)).sum(-1), each.mean(0), atol=1e-4, rtol=1e-4)
        assert (each[0] != each[1]).any()


@pytest.mark.parametrize("others", [0, 2])
def test_a_client_s_members_learn_the_same_bits_whoever_shares_its_process(others: int, tmp_path: Path) -> None:
    out = tmp_path / "data"
    collect("channel_access", {"num_stations": 3}, [Behaviour("csma_ca")], 600, out, num_envs=4, split="agents")
    small: dict[str, Any] = {"model_hiddens": (16,), "model_batch_size": 32, "local_steps": 10, "policy_hiddens": (16,)}
    small |= {"policy_steps": 10, "clone_steps": 20, "planner_anchors": 32, "mcts_roots": 64, "mcts_simulations": 4}
    settings = FedMORLSettings.parse(
        {**small, "planner": "mcts", "ensemble_size": MEMBERS, "uncertainty_penalty": 0.1, "cost_weight": 0.01}
    )
    folders = client_folders(out)
    groups = [
        ClientGroup({a: folders[a] for a in agents}, settings, tmp_path / str(len(agents)), seed=0)
        for agents in (list(folders), list(folders)[: 1 + others])
    ]
    statistics = merge_statistics(list(groups[0].statistics().values()))
    first = WorldModel(groups[0].layout, statistics, (16,), 1, torch.Generator().manual_seed(0), ensemble_size=MEMBERS)
    updates = [group.train_model(first.weights(), statistics, 0)["station_0"] for group in groups]
    for name, value in updates[0].weights.items():
        np.testing.assert_array_equal(value, updates[1].weights[name])
        assert len(value) == MEMBERS
    assert updates[0].metrics == updates[1].metrics
    figures = [group.improve_policies(updates[0].weights, statistics, 1)["station_0"] for group in groups]
    assert figures[0] == figures[1]


# Action 1 turns the level round and pays the more the higher it is, but data try it only below 0; action 0 lets it fall.
BET = Layout.from_fields(
    (ObsField("kind", "categorical", 1), ObsField("level", "continuous", low=-1.0, high=1.0)), num_actions=2
)


def bets(number: int) -> Rows:
    g = torch.Generator().manual_seed(0)
    level = 2 * torch.rand(number, generator=g) - 1
    actions = ((level < 0) & (torch.rand(number, generator=g) < 0.5)).long()
    return Rows(
        obs=torch.stack([torch.ones(number), level], 1),
        actions=actions,
        rewards=actions * (0.5 + 0.4 * level),
        costs=torch.zeros(number),
        new_obs=torch.stack([torch.ones(number), torch.where(actions == 1, -level, 0.9 * level)], 1),
        duration=torch.ones(number),
        terminateds=torch.zeros(number, dtype=torch.bool),
        action_mask=torch.ones(number, 2, dtype=torch.bool),
    )


@pytest.fixture(scope="module")
def bettor() -> WorldModel:
    return trained(bets(3000), BET, members=5, steps=200)


def test_members_disagree_where_the_data_do_not_reach(bettor: WorldModel) -> None:
    low, high = torch.tensor([[1.0, -0.5]]), torch.tensor([[1.0, 0.9]])
    u_low, u_high = (disagreement(bettor.outcomes(obs), bettor)[0] for obs in (low, high))
    assert u_high[1] > 2 * u_low[1]  # action 1 was never tried at a high level
    assert u_high[1] > 2 * u_high[0]  # action 0 was tried at every level


def test_rewards_are_less_the_penalty_times_the_disagreement(bettor: WorldModel) -> None:
    obs = bets(50).obs
    u = disagreement(bettor.outcomes(obs), bettor)
    less = bettor.outcomes(obs).reward - PenalisedModel(bettor, 0.7).outcomes(obs).reward
    torch.testing.assert_close(less, 0.7 * u.unsqueeze(-1).expand_as(less), atol=1e-5, rtol=1e-4)
    same = trained(bets(500), BET, members=1, steps=0)
    assert (disagreement(same.outcomes(obs), same) == 0).all()


def test_a_pessimist_stays_with_the_data_where_they_do_not_cover(bettor: WorldModel) -> None:
    """That action 1 pays at a high level is the model's guess; rollouts follow it, unless disagreement is penalised."""

    def odds(penalty: float) -> float:
        settings = FedMORLSettings.parse(
            {
                "policy_learning": "rollout",
                "policy_hiddens": (16,),
                "policy_steps": 200,
                "clone_steps": 200,
                "rollout_starts": 1024,
                "rollout_horizon": 2,
                "cql_alpha": 0.0,
                "ensemble_size": bettor.ensemble_size,
                "uncertainty_penalty": penalty,
            }
        )
        learner = PolicyLearner(bettor, Stack([bets(3000)]), settings, gamma=1e-6)
        states: list[Any] = [None]
        for iteration in range(2):
            states, _ = learner.improve(states, *[[torch.Generator().manual_seed(s)] for s in (1, 2, 3 + iteration)])
        obs = torch.tensor([[1.0, level] for level in (0.6, 0.8, 1.0)])
        logits = policy_of(states[0], "bettor", BET).logits(obs[:, None].numpy())
        return float((logits[:, 0, 1] - logits[:, 0, 0]).mean())

    assert odds(0.0) > odds(30.0) + 1.0


def test_a_penalty_without_an_ensemble_is_refused() -> None:
    with pytest.raises(ConfigError, match="ensemble_size of at least 2"):
        FedMORLSettings.parse({"uncertainty_penalty": 0.5})
    assert FedMORLSettings.parse({"uncertainty_penalty": 0.5, "ensemble_size": 2}).ensemble_size == 2
