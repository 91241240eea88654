"""CTDE-CQL as its users meet it: settings, data, training folders, online runs, policies, faults."""

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_algorithms import assert_equal_algorithms
from test_faults import content

from rllib_wireless.algorithms.ctde_cql.ctde_cql import CTDECQL, CTDECQLConfig
from rllib_wireless.algorithms.ctde_cql.ctde_cql_learner import CTDECQLLearner, as_one_agent
from rllib_wireless.algorithms.gradient import layer_sizes
from rllib_wireless.algorithms.training import train
from rllib_wireless.cli import run as command
from rllib_wireless.data import Behaviour, collect, load_dataset, read_card
from rllib_wireless.envs import StepRandom, make_env
from rllib_wireless.errors import UserError
from rllib_wireless.policies import JointNetworkPolicy, NetworkPolicy, StackedMLP, load_policy, save_policy
from rllib_wireless.policies.choice import Mode
from rllib_wireless.policies.joint import joint_action, joint_mask, split_action
from rllib_wireless.testing import check_policy

ENV: dict[str, Any] = {"num_stations": 3}
POISSON: dict[str, Any] = {**ENV, "saturated": False, "arrival_rate": 0.001}
SMALL = {"dataset_num_iters_per_learner": 20, "train_batch_size_per_learner": 32, "fcnet_hiddens": [16]}


@pytest.fixture(scope="module")
def poisson_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4,000 joint steps of stations that decide at different times, a row for every step."""
    out = tmp_path_factory.mktemp("data") / "poisson"
    collect("channel_access", POISSON, [Behaviour("csma_ca")], 4000, out, num_envs=4, rows="all")
    return out


@pytest.fixture
def config(poisson_data: Path) -> CTDECQLConfig:
    made = CTDECQLConfig().environment("channel_access", env_config=POISSON).offline_data(input_=poisson_data)
    made.training(**SMALL).evaluation(evaluation_duration=8 * 200)
    made.num_envs_per_env_runner = 8
    return made


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paradigm": "federated"}, r"ctde_cql: paradigm = 'federated', but it should be 'ctde', 'centralized'"),
        ({"mixer": "monotonic", "paradigm": "independent"}, r"mixer = 'monotonic' needs paradigm = 'ctde'"),
        ({"cql_alpha": -1.0}, r"ctde_cql: cql_alpha = -1.0, but it should be greater than or equal to 0"),
        ({"temperature": "automatic"}, r"ctde_cql: temperature = 'automatic'"),
        ({"temperature": 0.0}, r"ctde_cql: temperature = 0.0, but it should be greater than 0"),
        ({"reward_scale": 0.0}, r"ctde_cql: reward_scale = 0.0, but it should be greater than 0"),
        (
            {"paradigm": "centralized", "max_joint_actions": 7},
            r"3 agents with 2 actions each have 8 joint actions, more than max_joint_actions = 7; 'ctde' needs no joint",
        ),
    ],
)
def test_wrong_settings_are_told(config: CTDECQLConfig, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.training(**settings).validate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.training(cql_alpha=1.0), r"ctde_cql: cql_alpha = 1.0, but without a data set.* it should be 0"),
        (lambda c: c.learners(num_learners=2), r"ctde_cql: num_learners = 2, but without a data set.* it should be 0"),
        (lambda c: c.env_runners(num_env_runners=1), r"ctde_cql: num_env_runners = 1, but without a data set"),
        (
            lambda c: c.training(keep_replay=(3, 2)),
            r"keep_replay = \(3, 2\), but the first iteration should not be after",
        ),
        (lambda c: c.training(keep_replay=(1, 2)), r"keep_replay = \(1, 2\), but set_output\(folder\) has not said"),
    ],
)
def test_what_online_training_cannot_do_is_told(change: Callable[[CTDECQLConfig], Any], message: str) -> None:
    config = CTDECQLConfig().environment("channel_access", env_config=ENV).training(cql_alpha=0.0)
    config.validate()
    with pytest.raises(UserError, match=message):
        change(config)
        config.validate()


def test_the_monotonic_mixer_needs_the_joint_state(config: CTDECQLConfig, tmp_path: Path) -> None:
    collect("channel_access", POISSON, [Behaviour("csma_ca")], 400, tmp_path / "d", num_envs=4, rows="all", state=False)
    config.offline_data(input_=tmp_path / "d").training(mixer="monotonic")
    with pytest.raises(UserError, match="it holds no joint state"):
        config.build_algo()


# ------------------------------------------------------------------------------------------------ offline

VARIANTS = [
    {},
    {"mixer": "monotonic"},
    {"backbone": "dqn", "paradigm": "independent"},
    {"paradigm": "centralized", "mode": "sample"},
    {"backbone": "dqn", "num_critics": 2, "temperature": 0.1, "grad_clip": 1.0},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_every_variant_trains_evaluates_and_goes_on_bit_for_bit(
    config: CTDECQLConfig, settings: dict[str, Any], tmp_path: Path
) -> None:
    """On rows of all steps, in most of which some station has nothing to decide."""
    algo = config.training(**settings).build_algo()
    algo.train()
    algo.save_to_path(tmp_path / "checkpoint")
    again = CTDECQL.from_checkpoint(tmp_path / "checkpoint")
    assert_equal_algorithms(algo, again)
    assert 0.0 <= algo.evaluate()["env_runners"]["throughput_ratio"] <= 1.0
    check_policy(
        lambda env: algo.policy(),
        lambda num_envs, strict: make_env("channel_access", num_envs, strict=strict, **POISSON),
    )
    algo.stop()
    again.stop()


def test_rows_without_a_decision_have_neither_policy_nor_conservative_loss(config: CTDECQLConfig) -> None:
    """What such a row shows of its agent moves the TD error alone."""
    algo = config.build_algo()
    learner = algo.learner_group._learner
    rows = next(algo._iterators[0].iter_torch_batches(batch_size=256))
    batch = {name.removeprefix("agents/"): column for name, column in rows.items()}
    idle = ~batch["acting"]
    assert 0.2 < idle.float().mean() < 0.98

    def terms(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        named: dict[str, torch.Tensor] = learner.loss(batch, learner.agents_module._forward_train(batch)).terms
        return named

    before = terms(batch)
    after = terms({**batch, "obs": torch.where(idle[..., None], 1.0 - batch["obs"], batch["obs"])})
    for name in ("policy", "conservative", "entropy"):
        torch.testing.assert_close(after[name], before[name])
    assert (after["td"] - before["td"]).abs().min() > 1e-4
    algo.stop()


@pytest.mark.parametrize("backbone", ["sac", "dqn"])
@pytest.mark.parametrize("paradigm", ["ctde", "centralized", "independent"])
@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_without_a_discount_nothing_is_made_of_what_follows(
    config: CTDECQLConfig, gamma: float, paradigm: str, backbone: str
) -> None:
    """Next observations that are no numbers leave the loss as it is, and the target is the reward; with a discount both fail."""
    algo = config.training(gamma=gamma, paradigm=paradigm, backbone=backbone, reward_scale=1.0).build_algo()
    learner = algo.learner_group._learner
    rows = next(algo._iterators[0].iter_torch_batches(batch_size=64))
    batch = learner.arrange({name.removeprefix("agents/"): column for name, column in rows.items()})
    batch["new_obs"] = torch.full_like(batch["new_obs"], math.nan)
    module = learner.agents_module
    outputs = module._forward_train(batch)
    rewards = batch["rewards"].mean(dim=1, keepdim=True) if paradigm == "ctde" else batch["rewards"]
    target = learner._target(batch, outputs)
    assert target.shape == rewards.shape
    assert torch.isfinite(learner.loss(batch, outputs).total).all() == (gamma == 0.0)
    assert torch.equal(target, rewards - module.scaling.value_offset) == (gamma == 0.0)
    algo.stop()


def test_a_run_from_the_command_line_can_be_evaluated_collected_and_prolonged(
    poisson_data: Path, tmp_path: Path
) -> None:
    out, network = tmp_path / "run", ["-c", "num_stations=3", "-c", "saturated=false", "-c", "arrival_rate=0.001"]
    settings = [f"{name}={value}" for name, value in SMALL.items()]
    given = [word for pair in settings for word in ("-s", pair)]
    data, env = ["--data", str(poisson_data)], ["--env", "channel_access", *network]
    assert command(["train", "ctde_cql", *env, *data, "--out", str(out), *given, "--iterations", "2"]) == 0
    assert command(["train", "--resume", "--out", str(out), "--iterations", "3"]) == 0
    assert command(["evaluate", str(out), *env, "--num-envs", "4", "--steps", "50", "-s", "epsilon=0.1"]) == 0
    assert command(["evaluate", str(out), *env, "--num-envs", "4", "--steps", "50", "-s", "epsilon=often"]) == 2
    # The greedy policy of a run may be sampled from, and then says with which probabilities.
    collected = ["--steps", "200", "--rows", "all", "--out", str(tmp_path / "more"), "-s", "mode=sample"]
    assert command(["collect", "channel_access", *network, "--policy", str(out), *collected]) == 0
    rows = load_dataset(tmp_path / "more").rows["station_0"]
    assert read_card(tmp_path / "more").action_prob == "exact" and 0.0 < rows["action_prob"].min() < 1.0


def test_tune_searches_over_the_weight_of_the_conservative_term(config: CTDECQLConfig, ray_session: None) -> None:
    from ray import tune

    config.training(cql_alpha=tune.grid_search([0.0, 10.0]))
    tuner = tune.Tuner(
        CTDECQL, param_space=config, run_config=tune.RunConfig(stop={"training_iteration": 1}, verbose=0)
    )
    results = tuner.fit()
    gaps = {r.config["cql_alpha"]: r.metrics["learners"]["agents"]["conservative"] for r in results}
    assert not results.errors and gaps[10.0] < gaps[0.0]


# ------------------------------------------------------------------------------------------------ joint actions


def test_joint_actions_count_through_all_combinations() -> None:
    actions = np.stack(np.meshgrid(range(3), range(3), range(3), indexing="ij"), -1).reshape(-1, 3)
    numbers = joint_action(actions, 3)
    assert numbers.tolist() == list(range(27))
    np.testing.assert_array_equal(split_action(numbers, 3, 3), actions)


def test_a_joint_action_is_legal_where_each_part_is() -> None:
    mask = np.random.default_rng(0).random((50, 3, 4)) < 0.6
    joint = joint_mask(mask)
    for number in range(64):
        parts = split_action(np.array([number]), 3, 4)[0]
        np.testing.assert_array_equal(joint[:, number], mask[:, range(3), parts].all(1))
    torch.testing.assert_close(joint_mask(torch.from_numpy(mask)), torch.from_numpy(joint))


def test_the_joint_game_is_one_agents() -> None:
    random = torch.Generator().manual_seed(0)
    batch = {
        "obs": torch.randn(4, 2, 3, generator=random),
        "new_obs": torch.randn(4, 2, 3, generator=random),
        "action_mask": torch.ones(4, 2, 2, dtype=torch.bool),
        "new_action_mask": torch.ones(4, 2, 2, dtype=torch.bool),
        "actions": torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0]]),
        "rewards": torch.tensor([[1.0, 3.0]] * 4),
        "terminateds": torch.zeros(4, 2, dtype=torch.bool),
        "duration": torch.ones(4, 2),
        "acting": torch.tensor([[True, False], [False, False], [True, True], [False, True]]),
    }
    joint = as_one_agent(batch, 2)
    assert joint["actions"].tolist() == [[1], [2], [3], [0]] and joint["action_mask"].shape == (4, 1, 4)
    assert joint["rewards"].tolist() == [[2.0]] * 4 and joint["acting"].tolist() == [[True], [False], [True], [True]]
    torch.testing.assert_close(joint["obs"][:, 0, 3:], batch["obs"][:, 1])


def test_a_centralized_policy_has_no_part_for_one_agent(tmp_path: Path) -> None:
    env = make_env("channel_access", **ENV)
    network = StackedMLP(1, (3 * layer_sizes(env, ())[0], 8, 8))
    save_policy(JointNetworkPolicy(network, env.agents, 2), tmp_path / "p", env="channel_access", env_config=ENV)
    assert load_policy(tmp_path / "p").centralized
    with pytest.raises(UserError, match="the policy is centralized"):
        load_policy(tmp_path / "p", agent="station_0")


@pytest.mark.parametrize("epsilon", [-0.1, 1.5, "often"])
def test_a_share_of_random_actions_is_between_0_and_1(epsilon: Any) -> None:
    with pytest.raises(UserError, match=f"epsilon = {epsilon!r}, but it should be between 0 and 1"):
        NetworkPolicy(StackedMLP(1, (3, 2)), ["a"], epsilon=epsilon)


@pytest.mark.parametrize("mode", ["greedy", "sample"])
def test_a_random_share_of_actions_is_uniform_and_its_probability_known(mode: Mode) -> None:
    env = make_env("channel_access", 2000, **ENV)
    network = StackedMLP(3, layer_sizes(env, ()), torch.Generator().manual_seed(0))
    policy = NetworkPolicy(network, env.agents, mode, epsilon=0.3)
    step = env.reset(0)
    logits = policy.logits(step.obs)
    likely = torch.softmax(torch.from_numpy(logits), -1)[..., 1].numpy() if mode == "sample" else logits.argmax(-1)
    transmits = 0.7 * likely + 0.3 / 2
    actions = policy.act(step, StepRandom(0, 2000, 3))
    # 2,000 copies: three standard errors are .034.
    np.testing.assert_allclose(actions.mean(0), transmits.mean(0), atol=0.034)
    assert policy.action_prob is not None
    np.testing.assert_allclose(policy.action_prob, np.where(actions == 1, transmits, 1.0 - transmits), rtol=1e-5)


# ------------------------------------------------------------------------------------------------ faults


class MortalLearner(CTDECQLLearner):
    """The first one to begin its second update dies, once."""

    @staticmethod
    def mark(data: Path | str) -> Path:
        return Path(data).with_name("a learner died")

    def update(self, **kwargs: Any) -> Any:
        if self._weights_seq_no == 1:
            try:
                self.mark(self.config.input_).open("x").close()
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().update(**kwargs)


@pytest.mark.slow
def test_a_killed_learner_ends_the_run_with_one_line_and_resume_goes_on(
    poisson_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None
) -> None:
    given: dict[str, Any] = {
        "env_config": POISSON,
        "data": poisson_data,
        "settings": {**SMALL, "num_learners": 2},
        "iterations": 3,
    }
    train("ctde_cql", "channel_access", out=tmp_path / "whole", **given)
    monkeypatch.setattr(CTDECQLConfig, "get_default_learner_class", lambda self: MortalLearner)
    with pytest.raises(UserError, match=r"a learner's process was lost in iteration 2; .* `train --resume`"):
        train("ctde_cql", "channel_access", out=tmp_path / "cut", **given)
    assert MortalLearner.mark(poisson_data).exists()
    train("ctde_cql", "channel_access", out=tmp_path / "cut", resume=True, **given)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
