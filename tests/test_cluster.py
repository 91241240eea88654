"""Learners and clients on a Ray cluster of two nodes; run with `pytest -m cluster`, in a process of its own."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rllib_wireless.algorithms.baselines.bc import BCConfig
from rllib_wireless.algorithms.ctde_cql.ctde_cql import CTDECQLConfig
from rllib_wireless.algorithms.fedmorl.fedmorl import FedMORLConfig
from rllib_wireless.algorithms.gradient import GradientConfig
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.data.sampling import TensorIterator

pytestmark = pytest.mark.cluster

ENV = {"num_stations": 3}


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    cluster.add_node(num_cpus=2)
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests.parent), str(tests)])
    ray.init(address=cluster.address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_two_learners_train_one_network_and_resume(csma_data: Path, tmp_path: Path, two_nodes: Any) -> None:
    config = BCConfig().environment("channel_access", env_config=ENV).offline_data(input_=csma_data)
    config.training(fcnet_hiddens=(16,), dataset_num_iters_per_learner=30, train_batch_size_per_learner=64)
    config.learners(num_learners=2)
    algo = config.build_algo()
    nodes = {r.get() for r in algo.learner_group.foreach_learner(lambda learner: learner.node)}
    algo.train()
    replicas = [
        r.get()
        for r in algo.learner_group.foreach_learner(
            lambda learner: learner.get_state("rl_module")["rl_module"]["agents"]["network.weights.0"]
        )
    ]
    assert nodes and len(replicas) == 2
    np.testing.assert_array_equal(*replicas)
    algo.save_to_path(tmp_path / "checkpoint")
    first = algo.train()["learners"]["agents"]["loss"]
    weights = algo.network().state_dict()
    algo.stop()

    again = type(algo).from_checkpoint(tmp_path / "checkpoint")
    assert again.train()["learners"]["agents"]["loss"] == first
    for name, value in again.network().state_dict().items():
        np.testing.assert_array_equal(value, weights[name])
    again.stop()


class SharedBatches(TensorIterator):
    """One part of batches that are drawn from all rows, the same ones for any number of parts."""

    def __init__(self, path: Path, columns: Sequence[str], part: int, parts: int) -> None:
        super().__init__([path], columns=columns)
        self.part, self.parts = part, parts

    def iter_torch_batches(
        self, *, batch_size: int, device: torch.device | str | None = None, **_: Any
    ) -> Iterator[dict[str, torch.Tensor]]:
        for batch in super().iter_torch_batches(batch_size=batch_size * self.parts, device=device):
            yield {name: column[self.part :: self.parts] for name, column in batch.items()}


@pytest.mark.parametrize(
    ("config_class", "settings"),
    [
        (BCConfig, {}),
        (CTDECQLConfig, {"cql_alpha": 1.0}),
        (CTDECQLConfig, {"cql_alpha": 1.0, "mixer": "monotonic"}),
        (CTDECQLConfig, {"cql_alpha": 1.0, "backbone": "dqn", "paradigm": "centralized"}),
    ],
)
def test_two_learners_on_one_batch_are_one_learner(
    config_class: type[GradientConfig], settings: dict[str, Any], tmp_path: Path, two_nodes: Any
) -> None:
    """Within the error of single precision, though the learners have unequal numbers of rows with a decision."""
    env = {**ENV, "saturated": False, "arrival_rate": 0.001}
    data = tmp_path / "data"
    collect("channel_access", env, [Behaviour("csma_ca")], 2000, data, num_envs=4, rows="all")
    weights = []
    for learners in (0, 2):
        parts = max(learners, 1)
        config = config_class().environment("channel_access", env_config=env).offline_data(input_=data)
        config.training(**settings, fcnet_hiddens=(16,), dataset_num_iters_per_learner=20, lr=1e-3)
        config.training(train_batch_size_per_learner=64 // parts).learners(num_learners=learners)
        algo = config.build_algo()
        algo._iterators = [SharedBatches(data, config.columns_to_load(), i, parts) for i in range(parts)]
        before = algo.learner_group.get_weights(["agents"])["agents"]
        algo.train()
        weights.append(algo.learner_group.get_weights(["agents"])["agents"])
        algo.stop()
        moved = max(float(np.abs(weights[-1][name] - before[name]).max()) for name in before)
        assert moved > 0.01
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=2e-5, err_msg=name)


def test_clients_on_two_nodes_federate_as_in_one_process(csma_clients: Path, two_nodes: Any, tmp_path: Path) -> None:
    models = []
    for actors in (0, 3):
        config = FedMORLConfig().environment("channel_access", env_config=ENV).offline_data(input_=csma_clients)
        config.federation(rounds=2, num_client_actors=actors)
        config.set_output(tmp_path / str(actors))
        algo = config.build_algo()
        algo.train()
        algo.train()
        models.append(algo.weights)
        algo.stop()
    for name in models[0]:
        np.testing.assert_array_equal(models[0][name], models[1][name])
