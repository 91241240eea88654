"""What FedMORL is compared with: clients that share their rows, their policies or nothing; and shards of a log."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_fedmorl_algorithm import CHEAP, ENV, SMALL, assert_equal, built, tensors

from rllib_wireless.algorithms.fedmorl.baselines import PooledClients, average_policy, join, part
from rllib_wireless.algorithms.fedmorl.client import ClientGroup, load_rows
from rllib_wireless.algorithms.fedmorl.federated_settings import FederatedSettings
from rllib_wireless.algorithms.fedmorl.fedmorl import FedMORL, FedMORLConfig
from rllib_wireless.algorithms.fedmorl.layout import Layout
from rllib_wireless.algorithms.fedmorl.likelihood import held_out_loss
from rllib_wireless.algorithms.fedmorl.policy_state import policy_of, with_policy
from rllib_wireless.algorithms.fedmorl.statistics import merge_statistics
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel
from rllib_wireless.data import client_folders
from rllib_wireless.envs import make_env
from rllib_wireless.policies import NetworkPolicy, StackedMLP

BASELINES = ("policies", "data", "nothing")


@pytest.fixture
def config(csma_clients: Path, tmp_path: Path) -> FedMORLConfig:
    config = FedMORLConfig().environment("channel_access", env_config=ENV).offline_data(input_=csma_clients)
    config.federation(**SMALL).training(**CHEAP)
    config.set_output(tmp_path)
    return config


def trained(algo: FedMORL) -> FedMORL:
    while not algo.finished:
        algo.train()
    return algo


def observations(folder: Path) -> np.ndarray:
    return load_rows(folder).obs[:50].numpy()[:, None]


# ------------------------------------------------------------------------------------------------ nothing


def test_a_client_apart_learns_what_it_learns_as_the_only_client(
    config: FedMORLConfig, csma_clients: Path, tmp_path: Path
) -> None:
    algo = trained(built(config, tmp_path / "apart", federate="nothing"))
    settings = algo.settings
    client, folder = "station_1", client_folders(csma_clients)["station_1"]
    alone = ClientGroup({client: folder}, settings, tmp_path / "alone", config.seed)
    statistics = alone.statistics()[client]
    layout = Layout.of(make_env("channel_access", num_stations=3))
    generator = torch.Generator().manual_seed(config.seed)
    weights = WorldModel(layout, statistics, settings.model_hiddens, generator=generator).weights()
    for number in range(settings.rounds):
        weights = alone.train_model(weights, statistics, number)[client].weights
    for number in range(1, 1 + settings.policy_iterations):
        alone.improve_policies(weights, statistics, number)
    assert algo.weights is not None
    assert_equal(part(algo.weights, client), weights)
    assert_equal(algo.client_policies()[client].to_portable()[1], alone.policies(2)[client].to_portable()[1])
    algo.stop()


def test_names_of_clients_may_begin_alike() -> None:
    parts = {"a/1": {"w": np.ones(1)}, "a/10": {"w": np.zeros(1)}}
    assert {client: part(join(parts), client) for client in parts} == parts


# ------------------------------------------------------------------------------------------------ data


def test_a_pooled_step_is_that_of_one_client_with_all_rows(csma_clients: Path, tmp_path: Path) -> None:
    # Whole shards as minibatches would need equal draws: gradients are compared on all rows of unequal shards instead.
    folders = dict(list(client_folders(csma_clients).items())[:2])
    shards = {"station_0": 60, "station_1": 200}
    settings = FederatedSettings.parse({**CHEAP, "federate": "data", "client_rows": shards, "validation_share": 0.01})
    pooled = PooledClients(folders, settings, tmp_path, seed=0)
    statistics = merge_statistics(list(pooled.statistics().values()))
    weights = WorldModel(
        pooled.layout, statistics, settings.model_hiddens, generator=torch.Generator().manual_seed(1)
    ).weights()
    updates = pooled.train_model(weights, statistics, round=0)
    assert_equal(updates["station_0"].weights, updates["station_1"].weights)

    model = pooled._model(weights, statistics, 2)
    rows = [pooled._training.of(k) for k in range(2)]
    losses = torch.stack([sum_of(model, rows[k], k) for k in range(2)])
    losses.sum().backward()  # type: ignore[no-untyped-call]
    one = WorldModel(pooled.layout, statistics, settings.model_hiddens)
    one.load_weights(weights)
    every = type(rows[0])(*(torch.cat(columns)[None] for columns in zip(*rows, strict=True)))
    torch.stack(list(one.loss(every).values())).sum().backward()  # type: ignore[no-untyped-call]
    for mine, whole in zip(model.parameters(), one.parameters(), strict=True):
        assert mine.grad is not None and whole.grad is not None
        for k in range(2):
            torch.testing.assert_close(mine.grad[k : k + 1], whole.grad, rtol=1e-3, atol=1e-6)


def sum_of(model: WorldModel, rows: Any, client: int) -> torch.Tensor:
    """Loss of one client's rows under its copy; every copy is given the same rows."""
    same = type(rows)(*(column[None].expand(2, *column.shape) for column in rows))
    total: torch.Tensor = torch.stack(list(model.loss(same).values())).sum(0)[client]
    return total


# ------------------------------------------------------------------------------------------------ policies


def test_all_clients_hold_the_averaged_policy_and_their_own_models(
    config: FedMORLConfig, csma_clients: Path, tmp_path: Path
) -> None:
    algo = trained(built(config, tmp_path / "a", federate="policies"))
    policies = list(algo.client_policies().values())
    obs = observations(csma_clients / "station_0")
    for policy in policies[1:]:
        np.testing.assert_allclose(policy.logits(obs), policies[0].logits(obs), atol=1e-4)
    assert algo.weights is not None
    name = "outcome_net.weights.0"
    assert not np.array_equal(part(algo.weights, "station_0")[name], part(algo.weights, "station_1")[name])
    algo.stop()


def test_policies_are_averaged_by_numbers_of_rows() -> None:
    policies = [
        NetworkPolicy(StackedMLP(1, (6, 4, 2), torch.Generator().manual_seed(k)), [f"agent_{k}"]) for k in range(2)
    ]
    average = average_policy(policies, [1, 3])
    for mean, a, b in zip(average.network.parameters(), *(p.network.parameters() for p in policies), strict=True):
        torch.testing.assert_close(mean, 0.25 * a + 0.75 * b)


def test_a_policy_adopted_is_read_back_whatever_the_normalisation() -> None:
    layout = Layout.of(make_env("channel_access", num_stations=3))
    policy = NetworkPolicy(StackedMLP(1, (layout.obs_size, 4, 2), torch.Generator().manual_seed(3)), ["average"])
    mean, std = torch.tensor([0.4, 0.0]), torch.tensor([0.25, 0.5])
    state = with_policy({"feature_mean": mean, "feature_std": std}, policy, layout)
    obs = np.random.default_rng(0).random((20, 1, layout.obs_size), np.float32)
    np.testing.assert_allclose(policy_of(state, "a", layout).logits(obs), policy.logits(obs), atol=1e-5)


def test_cloning_imitates_and_plans_nothing(config: FedMORLConfig, csma_clients: Path, tmp_path: Path) -> None:
    few = {"rounds": 1, "local_steps": 1, "clone_steps": 400, "policy_iterations": 1}
    algo = trained(built(config, tmp_path / "a", policy_learning="clone", **few))
    rows = load_rows(csma_clients / "station_0")
    may = rows.action_mask.all(-1)
    logits = algo.client_policies()["station_0"].logits(rows.obs[may].numpy()[:, None])[:, 0]
    share = torch.softmax(torch.from_numpy(logits), -1)[:, 1].mean()
    assert float(share) == pytest.approx(float(rows.actions[may].float().mean()), abs=0.02)
    algo.stop()


# ------------------------------------------------------------------------------------------------ all of them


@pytest.mark.parametrize("federate", BASELINES)
def test_baselines_resume_bit_for_bit(config: FedMORLConfig, tmp_path: Path, federate: str) -> None:
    straight = trained(built(config, tmp_path / "straight", federate=federate))
    stopped = built(config, tmp_path / "stopped", federate=federate)
    for _ in range(3):
        stopped.train()
    checkpoint = str(stopped.save_to_path(tmp_path / "checkpoint"))
    stopped.stop()
    resumed = built(config, tmp_path / "resumed", federate=federate)
    resumed.restore_from_path(checkpoint)
    trained(resumed)
    assert_equal(straight.weights, resumed.weights)
    assert_equal(tensors(straight), tensors(resumed))
    straight.stop()
    resumed.stop()


@pytest.mark.slow
@pytest.mark.parametrize("federate", BASELINES)
@pytest.mark.usefixtures("ray_session")
def test_the_number_of_actors_changes_nothing(config: FedMORLConfig, tmp_path: Path, federate: str) -> None:
    runs = [trained(built(config, tmp_path / str(n), federate=federate, num_client_actors=n)) for n in (0, 1, 2)]
    for other in runs[1:]:
        assert_equal(runs[0].weights, other.weights)
        assert_equal(tensors(runs[0]), tensors(other))
    for algo in runs:
        algo.stop()


def test_a_client_uses_its_first_rows(csma_clients: Path, tmp_path: Path) -> None:
    settings = FederatedSettings.parse({"client_rows": {"station_0": 100}, "validation_share": 0.1})
    folders = client_folders(csma_clients)
    group = ClientGroup(folders, settings, tmp_path, seed=0)
    assert group.statistics()["station_0"]["rows"][0] == 90
    whole = load_rows(folders["station_1"])
    assert group.statistics()["station_1"]["rows"][0] == len(whole.actions) - round(0.1 * len(whole.actions))
    np.testing.assert_array_equal(group._training.of(0).obs, load_rows(folders["station_0"]).obs[:90])


@pytest.mark.parametrize("federate", ["models", "nothing"])
def test_likelihood_is_in_units_of_the_rows(
    config: FedMORLConfig, csma_clients: Path, tmp_path: Path, federate: str
) -> None:
    algo = built(config, tmp_path / "a", federate=federate, rounds=3)
    algo.train()
    first = held_out_loss(algo, client_folders(csma_clients))
    algo.train()
    second = held_out_loss(algo, client_folders(csma_clients))
    assert first.keys() == {"station_0", "station_1", "station_2"}
    assert all(second[c].model < first[c].model and second[c].outcome < first[c].outcome for c in first)
    assert all(loss.outcome < loss.model or loss.model < 0 for loss in second.values())
    assert (len(set(second.values())) == 1) == (federate == "models")
    algo.stop()
    shutil.rmtree(tmp_path / "a", ignore_errors=True)
