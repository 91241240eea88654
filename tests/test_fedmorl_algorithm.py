"""FedMORL as an algorithm: rounds, clients that die, what travels, restoring, Tune."""

import os
import pickle
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from test_faults import content, killed_and_resumed

from rllib_wireless.algorithms.fedmorl import federation
from rllib_wireless.algorithms.fedmorl.aggregation import aggregate
from rllib_wireless.algorithms.fedmorl.client import ClientUpdate
from rllib_wireless.algorithms.fedmorl.federation import ClientHost
from rllib_wireless.algorithms.fedmorl.fedmorl import FedMORL, FedMORLConfig
from rllib_wireless.algorithms.fedmorl.statistics import Statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights
from rllib_wireless.algorithms.training import _row, train
from rllib_wireless.data.collect import Behaviour, collect
from rllib_wireless.errors import DataError
from rllib_wireless.policies import load_policy

ENV = {"num_stations": 3}
SMALL = {"rounds": 2, "tolerance": 0.0, "policy_iterations": 2}
CHEAP: dict[str, Any] = {
    "model_hiddens": [16],
    "model_batch_size": 64,
    "local_steps": 20,
    "policy_hiddens": [8],
    "policy_batch_size": 32,
    "policy_steps": 10,
    "clone_steps": 10,
    "planner_anchors": 64,
    "rollout_starts": 64,
}


@pytest.fixture
def config(csma_clients: Path, tmp_path: Path) -> FedMORLConfig:
    config = FedMORLConfig().environment("channel_access", env_config=ENV).offline_data(input_=csma_clients)
    config.federation(**SMALL).training(**CHEAP).evaluation(evaluation_duration=800)
    config.num_envs_per_env_runner = 8
    config.set_output(tmp_path)
    return config


def built(config: FedMORLConfig, out: Path, **settings: Any) -> FedMORL:
    copy = config.copy(copy_frozen=False).federation(**settings)
    copy.set_output(out)
    algo: FedMORL = copy.build_algo()
    return algo


def assert_equal(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> None:
    assert a is not None and b is not None and a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def tensors(algo: FedMORL) -> dict[str, np.ndarray]:
    policy = algo.policy()
    assert policy is not None
    return policy.to_portable()[1]


# ------------------------------------------------------------------------------------------------ phases


def test_rounds_come_first_then_policy_iterations_then_the_end(config: FedMORLConfig) -> None:
    algo = config.build_algo()
    results: list[dict[str, Any]] = []
    while not algo.finished:
        assert algo.policy() is None or results[-1]["phase"] == "policy"
        results.append(algo.train())
    assert [r["phase"] for r in results] == ["model", "model", "policy", "policy"]
    assert [r["federation"]["clients"] for r in results] == [3] * 4
    assert results[1]["federation"]["validation_loss"] < results[0]["federation"]["validation_loss"]
    assert "throughput_ratio" in algo.evaluate()["env_runners"]
    algo.stop()


def test_rounds_end_when_the_model_has_converged(config: FedMORLConfig) -> None:
    algo = config.federation(rounds=10, tolerance=1e6).build_algo()
    assert [algo.train()["phase"] for _ in range(3)] == ["model", "model", "policy"]
    algo.stop()


def test_evaluation_is_empty_while_there_is_no_policy(config: FedMORLConfig) -> None:
    algo = config.evaluation(evaluation_interval=1).build_algo()
    assert algo.train()["evaluation"]["env_runners"] == {}
    algo.stop()


def test_aggregation_weighs_by_transitions() -> None:
    def update(value: float, count: int) -> ClientUpdate:
        return ClientUpdate(weights={"w": np.full(3, value, np.float32)}, num_samples=count, metrics={})

    updates = [update(1.0, 1), update(5.0, 3)]
    np.testing.assert_array_equal(aggregate(updates, "fedavg")["w"], np.full(3, 4.0, np.float32))
    np.testing.assert_array_equal(aggregate(updates, "mean")["w"], np.full(3, 3.0, np.float32))


def test_equal_seeds_give_equal_models_and_policies(config: FedMORLConfig, tmp_path: Path) -> None:
    a, b = built(config, tmp_path / "a"), built(config, tmp_path / "b")
    for _ in range(4):
        assert _row(a.train()) == _row(b.train())
    assert_equal(a.weights, b.weights)
    assert_equal(tensors(a), tensors(b))
    a.stop()
    b.stop()


# ------------------------------------------------------------------------------------------------ data


def test_joint_data_are_refused(config: FedMORLConfig, csma_data: Path) -> None:
    with pytest.raises(DataError, match="split agents"):
        config.offline_data(input_=csma_data).build_algo()


def test_a_missing_clients_folder_is_named(config: FedMORLConfig, csma_clients: Path, tmp_path: Path) -> None:
    shutil.copytree(csma_clients, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "station_1")
    with pytest.raises(DataError, match="station_1 is missing"):
        config.offline_data(input_=tmp_path / "data").build_algo()


def test_another_environments_data_are_refused(config: FedMORLConfig) -> None:
    with pytest.raises(DataError, match="agents are"):
        config.environment(env_config={"num_stations": 2}).build_algo()


# ------------------------------------------------------------------------------------------------ messages


DECLARED_STATISTICS = {
    "rows",
    "feature_sum",
    "feature_square",
    "target_sum",
    "target_square",
    "marginals",
    "outcomes",
    "gram",
    "cross",
}


T = TypeVar("T")


class Overheard(ClientHost):
    """A host whose every answer is kept."""

    answers: list[tuple[str, Any]] = []

    def statistics(self) -> dict[str, Statistics]:
        return self._kept("statistics", super().statistics())

    def train_model(
        self, weights: Weights, statistics: Statistics, round: int, clients: Sequence[str] | None = None
    ) -> dict[str, ClientUpdate]:
        return self._kept("train_model", super().train_model(weights, statistics, round, clients))

    def improve_policies(self, weights: Weights, statistics: Statistics, iteration: int) -> dict[str, dict[str, float]]:
        return self._kept("improve_policies", super().improve_policies(weights, statistics, iteration))

    def policies(self, iteration: int) -> Any:
        return self._kept("policies", super().policies(iteration))

    def _kept(self, method: str, answer: T) -> T:
        self.answers.append((method, answer))
        return answer


def overheard(config: FedMORLConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[FedMORL, list[tuple[str, Any]]]:
    """Everything that clients send in a whole run."""
    monkeypatch.setattr(federation, "ClientHost", Overheard)
    monkeypatch.setattr(Overheard, "answers", [])
    algo = config.federation(gather_policies=False).build_algo()
    while not algo.finished:
        algo.train()
    return algo, Overheard.answers


def test_clients_send_parameters_counts_and_declared_statistics(
    config: FedMORLConfig, csma_clients: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    algo, answers = overheard(config, monkeypatch)
    assert {method for method, _ in answers} == {"statistics", "train_model", "improve_policies"}
    assert algo.weights is not None
    shapes = {name: value.shape for name, value in algo.weights.items()}
    for method, answer in answers:
        for sent in answer.values():
            if method == "statistics":
                assert set(sent) <= DECLARED_STATISTICS
                # Sums of fixed width, far fewer numbers than the rows that they sum over hold.
                assert sum(np.size(value) for value in sent.values()) < 0.01 * 8 * float(sent["rows"][0])
            elif method == "train_model":
                assert {name: value.shape for name, value in sent.weights.items()} == shapes
                assert isinstance(sent.num_samples, int)
                assert all(isinstance(value, float) for value in sent.metrics.values())
                assert set(vars(sent)) == {"weights", "num_samples", "metrics"}
            else:
                assert all(isinstance(value, float) for value in sent.values())
    algo.stop()


def test_messages_do_not_grow_with_the_data(
    config: FedMORLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    for steps in (4_000, 12_000):
        data = tmp_path / str(steps)
        collect("channel_access", ENV, [Behaviour("csma_ca")], steps, data, num_envs=4, split="agents")
        config.set_output(tmp_path / f"out_{steps}")
        algo, answers = overheard(config.offline_data(input_=data), monkeypatch)
        sizes.append([len(pickle.dumps(answer)) for _, answer in answers])
        algo.stop()
    np.testing.assert_allclose(sizes[0], sizes[1], atol=64)


def test_the_checkpoint_holds_the_global_model_and_no_policy(config: FedMORLConfig, tmp_path: Path) -> None:
    algo = config.build_algo()
    while not algo.finished:
        algo.train()
    own = algo.get_state()["fedmorl"]
    models = {"weights", "statistics", "losses"}
    assert set(own) == {*models, "phase", "round", "policy_iteration", "failed", "rounds_of", "client_state_dir"}
    assert_equal(own["weights"], algo.weights)
    assert sorted(p.name for p in (tmp_path / "clients").iterdir()) == ["station_0", "station_1", "station_2"]
    algo.stop()


def test_policies_stay_with_their_clients_unless_gathered(config: FedMORLConfig) -> None:
    algo = config.federation(gather_policies=False).build_algo()
    while not algo.finished:
        algo.train()
    assert algo.policy() is None
    assert algo.evaluate()["env_runners"] == {}
    algo.stop()


# ------------------------------------------------------------------------------------------------ actors and faults


def test_results_do_not_depend_on_the_number_of_actors(
    config: FedMORLConfig, tmp_path: Path, ray_session: None
) -> None:
    algos = [built(config, tmp_path / str(n), num_client_actors=n) for n in (0, 1, 2)]
    rows = [[_row(algo.train()) for _ in range(4)] for algo in algos]
    assert rows[0] == rows[1] == rows[2]
    for algo in algos[1:]:
        assert_equal(algo.weights, algos[0].weights)
        assert_equal(tensors(algo), tensors(algos[0]))
    for algo in algos:
        algo.stop()


class Mortal(ClientHost):
    """A host in which station_1 dies once, at the start of the round or iteration that a file names."""

    def train_model(
        self, weights: Weights, statistics: Statistics, round: int, clients: Sequence[str] | None = None
    ) -> dict[str, ClientUpdate]:
        self._maybe_die(f"round {round}")
        return super().train_model(weights, statistics, round, clients)

    def improve_policies(self, weights: Weights, statistics: Statistics, iteration: int) -> dict[str, dict[str, float]]:
        self._maybe_die(f"iteration {iteration}")
        return super().improve_policies(weights, statistics, iteration)

    def _maybe_die(self, moment: str) -> None:
        folders, _, state_dir, _ = self._arguments
        death = state_dir.parent / "death"
        if "station_1" in folders and death.exists() and death.read_text() == moment:
            death.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_round_closes_without_a_killed_client_and_the_next_has_it_back(
    config: FedMORLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None
) -> None:
    monkeypatch.setattr(federation, "ClientHost", Mortal)
    algo = built(config, tmp_path / "mortal", rounds=3, policy_iterations=3, num_client_actors=3)
    (tmp_path / "mortal").mkdir()
    clients = {}
    for moment in ("round 0", "round 1", "round 2", "iteration 1", "iteration 2", "iteration 3"):
        if moment in ("round 1", "iteration 2"):
            (tmp_path / "mortal" / "death").write_text(moment)
        clients[moment] = algo.train()["federation"]["clients"]
    assert clients == {
        "round 0": 3,
        "round 1": 2,
        "round 2": 3,
        "iteration 1": 3,
        "iteration 2": 2,
        "iteration 3": 3,
    }
    # It came back with its own state: what iteration 3 makes of iteration 1, in a process that saw only those.
    folder = {"station_1": Path(algo.config.input_) / "station_1"}
    alone = ClientHost(folder, algo.settings, tmp_path / "alone", algo.config.seed)
    for iteration in (1, 3):
        assert algo.weights is not None and algo.statistics is not None
        alone.improve_policies(algo.weights, algo.statistics, iteration)
    killed = {c: p.to_portable()[1] for c, p in algo.federation.ask("policies", iteration=3).items()}
    assert_equal(killed["station_1"], alone.policies(3)["station_1"].to_portable()[1])
    algo.stop()


def test_a_broken_row_in_an_actor_is_told_as_it_is(
    config: FedMORLConfig, csma_clients: Path, tmp_path: Path, ray_session: None
) -> None:
    shutil.copytree(csma_clients, tmp_path / "data")
    (file,) = (tmp_path / "data" / "station_2").glob("*.json")
    file.write_bytes(file.read_bytes()[:-100])
    algo = config.offline_data(input_=tmp_path / "data").federation(num_client_actors=1).build_algo()
    with pytest.raises(DataError, match="station_2"):
        algo.train()
    algo.stop()


# ------------------------------------------------------------------------------------------------ restoring


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_a_checkpoint_goes_on_bit_for_bit(config: FedMORLConfig, tmp_path: Path, iterations: int) -> None:
    config.client_state_dir = None  # each in a folder of its own log directory
    algo = config.build_algo()
    for _ in range(iterations):
        algo.train()
    algo.save_to_path(tmp_path / "checkpoint")
    again = FedMORL.from_checkpoint(tmp_path / "checkpoint")
    assert again.iteration == iterations and again._state_dir != algo._state_dir
    for _ in range(4 - iterations):
        assert _row(algo.train()) == _row(again.train())
    assert_equal(algo.weights, again.weights)
    assert_equal(tensors(algo), tensors(again))
    algo.stop()
    again.stop()


def run_fedmorl(data: Path, out: Path, **settings: Any) -> None:
    given = {"rounds": 3, "tolerance": 0.0, "policy_iterations": 3, **CHEAP, **settings}
    train("fedmorl", "channel_access", out=out, data=data, env_config=ENV, settings=given, resume=True)


@pytest.mark.parametrize("actors", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_as_if_it_had_not_been(csma_clients: Path, tmp_path: Path, actors: int) -> None:
    run_fedmorl(csma_clients, tmp_path / "finished", num_client_actors=0)
    out = tmp_path / "run"
    call = f"from test_fedmorl_algorithm import *; run_fedmorl(Path({str(csma_clients)!r}), Path({str(out)!r})"
    kills = killed_and_resumed(f"{call}, num_client_actors={actors})", out, [2, 4, 5], finished_at=6)
    assert kills >= 2  # the last kill may come too late on a fast machine
    whole, resumed = content(tmp_path / "finished"), content(out)
    whole.pop("run.yaml"), resumed.pop("run.yaml")
    assert resumed == whole
    assert load_policy(out).agents == ("station_0", "station_1", "station_2")


# ------------------------------------------------------------------------------------------------ Tune


def test_resources_of_client_actors_are_requested(config: FedMORLConfig) -> None:
    config.federation(num_client_actors=2)
    assert FedMORL.default_resource_request(config).bundles == [{"CPU": 1.0}] * 3


def test_tune_runs_trials_with_client_actors(config: FedMORLConfig, tmp_path: Path, ray_session: None) -> None:
    from ray import tune

    config.client_state_dir = None
    config.federation(num_client_actors=1, aggregation=tune.grid_search(["fedavg", "mean"]))
    run_config = tune.RunConfig(storage_path=str(tmp_path), stop={"training_iteration": 3}, verbose=0)
    results = tune.Tuner(FedMORL, param_space=config, run_config=run_config).fit()
    assert not results.errors and len(results) == 2
    assert [r.metrics["phase"] for r in results] == ["policy"] * 2
    assert all(r.metrics["federation"]["clients"] == 3 for r in results)
