"""Algorithms as RLlib users meet them: configuration, training, checkpoints, evaluation, Tune."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rllib_wireless.algorithms import algorithm_names, algorithm_spec
from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig
from rllib_wireless.algorithms.baselines.bc import BCConfig
from rllib_wireless.algorithms.ctde_cql.ctde_cql import CTDECQLConfig
from rllib_wireless.algorithms.run import plain
from rllib_wireless.algorithms.training import _row, train
from rllib_wireless.data.collect import Behaviour, collect
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.data.store import load_dataset
from rllib_wireless.envs import make_env
from rllib_wireless.errors import ConfigError, DataError, UserError
from rllib_wireless.policies import NetworkPolicy, StackedMLP, load_policy
from rllib_wireless.policies.evaluation import Evaluation, run

ENV: dict[str, Any] = {"num_stations": 3}


@pytest.fixture
def bc(csma_data: Path) -> BCConfig:
    config = BCConfig().environment("channel_access", env_config=ENV).offline_data(input_=csma_data)
    config.training(dataset_num_iters_per_learner=20, train_batch_size_per_learner=32, fcnet_hiddens=(16,))
    config.evaluation(evaluation_duration=8 * 200)
    config.num_envs_per_env_runner = 8
    return config


# ------------------------------------------------------------------------------------------------ configuration


def test_every_registered_algorithm_documents_its_settings_and_needs() -> None:
    for name in algorithm_names():
        spec = algorithm_spec(name)
        assert spec.config.settings.owner == name
        assert all(f.description for f in spec.settings)
        assert str(spec.requirements)
        assert isinstance(spec.algorithm.get_default_config(), spec.config)


def test_an_unknown_algorithm_is_told_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"'qmix'.*bc.*fedmorl.*mappo"):
        algorithm_spec("qmix")


def test_a_variant_is_its_algorithm_with_other_settings(tmp_path: Path) -> None:
    assert algorithm_spec("a2c").new_config().clip_param is None
    small = {"rollout_length": 4, "rollout_fragment_length": 2, "fcnet_hiddens": (8,), "num_iterations": 1}
    train("ippo", "task_offloading", env_config={"num_devices": 2}, out=tmp_path / "run", settings=small)
    assert "algorithm: ippo" in (tmp_path / "run" / "run.yaml").read_text()
    policy = load_policy(tmp_path / "run")
    assert isinstance(policy, NetworkPolicy) and policy.network.sizes == (2, 8, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.training(learning_rate=0.1),
            r"bc: learning_rate = 0.1, but there is no such field; fields are mode",
        ),
        (lambda c: c.training(lr=-1.0), r"bc: lr = -1.0, but it should be greater than 0"),
        (lambda c: c.training(mode="loud"), r"bc: mode = 'loud', but it should be 'sample' or 'greedy'"),
        (lambda c: c.update_from_dict({"bta": 1}), r"bc: bta = 1, but there is no such field"),
        (
            lambda c: c.environment("channel_acces"),
            r"no environment 'channel_acces'; environments are .*channel_access",
        ),
        (lambda c: c.environment(env_config={"num_stations": 0}), r"channel_access: num_stations = 0"),
        (
            lambda c: c.environment(env_config={"stations": 2}),
            r"channel_access: stations = 2, but there is no such field",
        ),
        (lambda c: setattr(c, "env", None), r"bc: env = None, but it should be the name of an environment"),
        (lambda c: setattr(c, "input_", None), r"bc: input_ = None, but it should be the folder of a data set"),
        (lambda c: c.evaluation(evaluation_duration=0), r"bc: evaluation_duration = 0"),
        (lambda c: setattr(c, "num_envs_per_env_runner", 0), r"bc: num_envs_per_env_runner = 0"),
    ],
)
def test_a_wrong_configuration_names_field_value_and_what_is_allowed(
    bc: BCConfig, change: Callable[[BCConfig], Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        change(bc)
        bc.validate()


def test_text_from_a_command_line_becomes_numbers(bc: BCConfig) -> None:
    bc.training(lr="1e-3").validate()
    assert bc.lr == 1e-3


def test_settings_travel_through_dictionaries_as_tune_passes_them(bc: BCConfig) -> None:
    copy = BCConfig().update_from_dict(bc.training(lr=0.5).to_dict())
    assert copy.lr == 0.5 and copy.env_config == ENV and copy.input_ == bc.input_


# ------------------------------------------------------------------------------------------------ data


def test_data_of_another_environment_are_refused(bc: BCConfig) -> None:
    bc.environment(env_config={"num_stations": 4})
    with pytest.raises(DataError, match="agents are station_0, station_1, station_2"):
        bc.build_algo()


def test_rows_that_do_not_align_are_refused_with_the_remedy(tmp_path: Path) -> None:
    poisson = {**ENV, "saturated": False, "arrival_rate": 0.001}
    collect("channel_access", poisson, [Behaviour("csma_ca")], 2000, tmp_path / "data", num_envs=4)
    config = CTDECQLConfig().environment("channel_access", env_config=poisson).offline_data(input_=tmp_path / "data")
    with pytest.raises(DataError, match="aligned agents; collect with `--rows all`"):
        config.build_algo()


def test_agents_that_learn_by_themselves_need_no_rows_that_align(bc: BCConfig, tmp_path: Path) -> None:
    poisson = {**ENV, "saturated": False, "arrival_rate": [0.002, 0.001, 0.0005]}
    collect("channel_access", poisson, [Behaviour("csma_ca")], 2000, tmp_path / "data", num_envs=4)
    own = load_dataset(tmp_path / "data").rows
    assert len({len(rows["t"]) for rows in own.values()}) == 3
    rows = TensorIterator([tmp_path / "data"], columns=["obs", "actions"], aligned=False).rows()
    for i, agent in enumerate(own):
        count = len(own[agent]["t"])
        np.testing.assert_array_equal(rows["obs"][:count, i], own[agent]["obs"])
        np.testing.assert_array_equal(
            rows["actions"][count : 2 * count, i], own[agent]["actions"][: len(rows["obs"]) - count]
        )
    independent = CTDECQLConfig().training(paradigm="independent", dataset_num_iters_per_learner=2)
    for config in (bc, independent):
        config.environment("channel_access", env_config=poisson).offline_data(input_=tmp_path / "data")
        algo = config.build_algo()
        algo.train()
        algo.stop()


def test_rows_of_all_steps_align_and_only_decisions_count(bc: BCConfig, tmp_path: Path) -> None:
    poisson = {**ENV, "saturated": False, "arrival_rate": 0.001}
    collect("channel_access", poisson, [Behaviour("csma_ca")], 4000, tmp_path / "data", num_envs=4, rows="all")
    bc.environment(env_config=poisson).offline_data(input_=tmp_path / "data")
    algo = bc.training(lr=1e-2, train_batch_size_per_learner=256).build_algo()
    for _ in range(15):
        algo.train()
    rows = load_dataset(tmp_path / "data").rows["station_0"]
    acts = rows["acting"]
    logits = algo.network()(torch.from_numpy(np.stack([rows["obs"]] * 3, axis=1)))[:, 0]
    learned = torch.softmax(logits, -1)[torch.from_numpy(acts), 1].mean().item()
    # Were rows without a decision (always action 0) counted, the share would be that over all rows.
    assert rows["actions"].mean() < 0.6 * rows["actions"][acts].mean()
    assert learned == pytest.approx(rows["actions"][acts].mean(), rel=0.15)
    algo.stop()


# ------------------------------------------------------------------------------------------------ learning


def test_behaviour_cloning_recovers_the_probabilities_of_the_data(tmp_path: Path) -> None:
    env = make_env("channel_access", 16, num_stations=2)
    network = StackedMLP(2, (env.observation_space.shape[0], 2), torch.Generator().manual_seed(3))
    with torch.no_grad():
        network.biases[0][:, :, 0] += 2.0  # mostly defer, as stations do
    teacher = NetworkPolicy(network, env.agents)
    collect("channel_access", {"num_stations": 2}, [Behaviour(teacher)], 40_000, tmp_path / "data", num_envs=16)
    config = BCConfig().environment("channel_access", env_config={"num_stations": 2})
    config.offline_data(input_=tmp_path / "data").training(lr=3e-3, fcnet_hiddens=(32,))
    algo = config.build_algo()
    for _ in range(4):
        algo.train()
    rows = load_dataset(tmp_path / "data").aligned()
    obs = torch.from_numpy(rows["obs"])
    with torch.no_grad():
        learned, true = (torch.softmax(n(obs), -1)[..., 1] for n in (algo.network(), network))
    # Over the observations of the data; 40,000 rows leave a standard error of about .002 a probability.
    assert (learned - true).abs().mean().item() < 0.012
    assert abs(learned.mean().item() - rows["actions"].mean()) < 0.005
    algo.stop()


def test_divergence_is_told_with_its_remedy(bc: BCConfig) -> None:
    algo = bc.build_algo()
    with torch.no_grad():
        algo.learner_group._learner.module["agents"].network.weights[0][0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"diverged at lr = 0\.001"):
        algo.train()
    algo.stop()


def test_each_agents_gradient_is_clipped_by_its_own_norm() -> None:
    from rllib_wireless.algorithms.stacked import agent_norms

    gradients = [torch.randn(3, 4, 5), torch.randn(3, 1, 5)]
    for i, norm in enumerate(agent_norms(gradients)):
        flat = torch.cat([g[i].flatten() for g in gradients])
        assert norm.item() == pytest.approx(flat.norm().item(), rel=1e-6)


# ------------------------------------------------------------------------------------------------ restoring


def weights(algo: OfflineMultiAgentAlgorithm) -> dict[str, np.ndarray]:
    policy = algo.policy()
    assert policy is not None
    return policy.to_portable()[1]


def assert_equal_algorithms(a: OfflineMultiAgentAlgorithm, b: OfflineMultiAgentAlgorithm) -> None:
    """The next iteration of both gives the same results and the same policy, bit for bit."""
    assert _row(a.train()) == _row(b.train())
    wa, wb = weights(a), weights(b)
    assert wa.keys() == wb.keys()
    for name in wa:
        np.testing.assert_array_equal(wa[name], wb[name])


def test_equal_seeds_give_equal_policies_and_others_do_not(bc: BCConfig) -> None:
    a, b, c = bc.build_algo(), bc.build_algo(), bc.copy(copy_frozen=False).debugging(seed=1).build_algo()
    c.train()
    assert_equal_algorithms(a, b)
    assert not np.array_equal(weights(a)["layer_0.weight"], weights(c)["layer_0.weight"])
    for algo in (a, b, c):
        algo.stop()


def test_a_checkpoint_goes_on_bit_for_bit(bc: BCConfig, tmp_path: Path) -> None:
    algo = bc.build_algo()
    algo.train()
    algo.save_to_path(tmp_path / "checkpoint")
    again = type(algo).from_checkpoint(tmp_path / "checkpoint")
    assert again.iteration == 1
    assert_equal_algorithms(algo, again)
    algo.stop()
    again.stop()


def test_state_goes_back_and_forth_between_algorithms(bc: BCConfig) -> None:
    algo, other = bc.build_algo(), bc.build_algo()
    algo.train()
    early = algo.get_state()
    algo.train()
    other.set_state(early)
    algo.set_state(early)
    assert algo.iteration == other.iteration == 1
    assert_equal_algorithms(algo, other)
    algo.stop()
    other.stop()


def test_an_exported_policy_evaluates_as_the_algorithm_does(bc: BCConfig, tmp_path: Path) -> None:
    algo = bc.build_algo()
    algo.train()
    algo.export_policy(tmp_path / "policy")
    loaded = load_policy(tmp_path / "policy")
    env = make_env("channel_access", 8, **ENV)
    statistics = run(env, loaded, steps=200, seed=1_000_000)
    expected = Evaluation("channel_access", ENV, "", "copy", 1_000_000, statistics).metrics()
    measured = algo.evaluate()["env_runners"]
    assert measured["throughput_ratio"] == expected["throughput_ratio"]["mean"]
    assert measured["lower95"]["throughput_ratio"] == expected["throughput_ratio"]["ci95"][0]
    algo.stop()


# ------------------------------------------------------------------------------------------------ evaluation, Tune


def test_evaluation_is_in_the_result_at_its_interval(bc: BCConfig) -> None:
    algo = bc.evaluation(evaluation_interval=2).build_algo()
    assert "evaluation" not in algo.train()
    result = algo.train()["evaluation"]["env_runners"]
    assert result["num_env_steps_sampled"] == 1600 and result["num_agent_steps_sampled"] == 4800
    assert result["lower95"]["throughput_ratio"] <= result["throughput_ratio"] <= result["upper95"]["throughput_ratio"]
    algo.stop()


@pytest.mark.parametrize("unit", ["timesteps", "episodes"])
def test_local_and_remote_evaluation_are_equal(bc: BCConfig, unit: str, ray_session: None) -> None:
    bc.environment(env_config={"episode_slots": 4000}).evaluation(
        evaluation_duration_unit=unit, evaluation_duration={"timesteps": 1600, "episodes": 24}[unit]
    )
    local = bc.build_algo()
    # Steps are cut into as many parts as there are runners, episodes into batches of one per copy.
    runners = {"timesteps": 1, "episodes": 2}[unit]
    remote = bc.copy(copy_frozen=False).evaluation(evaluation_num_env_runners=runners).build_algo()
    expected = plain(local.evaluate()["env_runners"])
    assert plain(remote.evaluate()["env_runners"]) == expected
    assert expected.get("num_episodes", 24) == 24
    local.stop()
    remote.stop()


def test_tune_searches_over_settings_and_restores_failed_trials(
    bc: BCConfig, tmp_path: Path, ray_session: None
) -> None:
    from ray import tune

    bc.training(lr=tune.grid_search([1e-4, 1e-2])).evaluation(evaluation_interval=1)
    tuner = tune.Tuner(
        bc.algo_class,
        param_space=bc,
        run_config=tune.RunConfig(storage_path=str(tmp_path), stop={"training_iteration": 2}, verbose=0),
    )
    results = tuner.fit()
    assert not results.errors and len(results) == 2
    losses = {r.config["lr"]: r.metrics["learners"]["agents"]["loss"] for r in results}
    assert losses[1e-2] < losses[1e-4]


def test_resources_of_evaluation_runners_are_requested(bc: BCConfig) -> None:
    bc.evaluation(evaluation_interval=1, evaluation_num_env_runners=2)
    assert bc.algo_class.default_resource_request(bc).bundles == [{"CPU": 1.0}] * 3


def test_configurations_are_values() -> None:
    """No two configurations share a mutable default."""
    a, b = BCConfig(), BCConfig()
    a.environment("channel_access", env_config=ENV)
    assert b.env_config == {} and isinstance(a, OfflineMultiAgentConfig)
    with pytest.raises(ConfigError):
        b.validate()
