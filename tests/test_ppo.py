"""PPO in all its forms: losses and advantages against their definitions, small games with known optima, runs and policies."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from table_game import GAMES, SPEC, optimal_q
from test_faults import content

from rllib_wireless.algorithms.baselines.ppo import PPO, PPOConfig
from rllib_wireless.algorithms.baselines.ppo_module import Moments
from rllib_wireless.algorithms.baselines.ppo_steps import OnPolicyRows, advantages, collect
from rllib_wireless.algorithms.losses import clipped_surrogate, log_prob_and_entropy
from rllib_wireless.algorithms.training import resume_run, train
from rllib_wireless.envs import make_env, registry
from rllib_wireless.errors import ConfigError, DataError, UserError
from rllib_wireless.policies import (
    FactoredNetworkPolicy,
    NetworkPolicy,
    Rollout,
    StackedMLP,
    evaluate,
    load_policy,
    run,
    save_policy,
)

PARADIGMS = ["ctde", "independent", "centralized"]
SMALL: dict[str, Any] = {
    "rollout_length": 24,
    "rollout_fragment_length": 12,
    "train_batch_size_per_learner": 32,
    "fcnet_hiddens": (16,),
    "num_iterations": 3,
}


@pytest.fixture(autouse=True)
def _table_game(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._SPECS, "table_game", SPEC)


def built(game: str, **settings: Any) -> PPO:
    config = PPOConfig().environment("table_game", env_config={"game": game})
    config.training(**{**SMALL, "lr": 5e-3, **settings}).num_envs_per_env_runner = 16
    algo = config.build_algo()
    assert isinstance(algo, PPO)
    return algo


def learned(game: str, **settings: Any) -> PPO:
    algo = built(game, **{"num_iterations": 15, "num_epochs": 4, **settings})
    while not algo.finished:
        algo.train()
    return algo


def greedy_reward(algo: PPO) -> float:
    """Mean reward a step of the most likely actions, which must be legal."""
    policy = algo._policy("greedy")
    statistics = run(make_env("table_game", 2, strict=True, **algo.config.env_config), policy, steps=40)
    return float(statistics["reward"].sum() / statistics["steps"].sum())


def learner_of(algo: PPO) -> Any:
    return algo.learner_group._learner


def steps_of(algo: PPO, num_steps: int = 12, seed: int = 0) -> dict[str, torch.Tensor]:
    rollout = Rollout(algo._env, algo._policy("sample"), seed)
    return collect(rollout, num_steps, with_state=algo.config.paradigm != "independent")


# ------------------------------------------------------------------------------------------------ loss


def test_the_surrogate_by_hand() -> None:
    """Ratios 1.5 and 0.5: a gain is cut at 1.2, a loss is not cut at 1.5, and the reverse below."""
    log_prob = torch.log(torch.tensor([[1.5], [1.5], [0.5], [0.5]]))
    advantage = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    loss = clipped_surrogate(log_prob, torch.zeros(4, 1), advantage, clip=0.2)
    assert loss.total.item() == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8) / 4)
    assert loss.terms["clipped"].item() == 1.0
    free = clipped_surrogate(log_prob, torch.zeros(4, 1), advantage, clip=None)
    assert free.total.item() == pytest.approx(0.0, abs=1e-7) and free.terms["clipped"].item() == 0.0
    divergence = np.mean([0.5 - np.log(1.5), -0.5 - np.log(0.5)])
    assert free.terms["kl"].item() == pytest.approx(divergence, rel=1e-5)


def test_without_clip_the_first_gradient_is_the_policy_gradient() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 2, 3, generator=random, requires_grad=True)
    actions, advantage = torch.randint(0, 2, (9, 2), generator=random), torch.randn(9, 2, generator=random)
    mask = torch.tensor([True, True, False]).expand(9, 2, 3)
    log_prob, _ = log_prob_and_entropy(logits, actions, mask)
    (gradient,) = torch.autograd.grad(
        clipped_surrogate(log_prob, log_prob.detach(), advantage, clip=None).total.sum(), logits
    )
    # grad log softmax(z)_a = 1{a} - softmax(z), over legal actions.
    p = torch.softmax(logits.detach()[..., :2], -1)
    chosen = torch.nn.functional.one_hot(actions, 2)
    torch.testing.assert_close(gradient[..., :2], -advantage[..., None] * (chosen - p) / 9)
    assert not gradient[..., 2].any()


def test_probability_and_entropy_are_those_of_legal_actions() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5]])).requires_grad_()
    log_prob, entropy = log_prob_and_entropy(logits, torch.tensor([1]), torch.tensor([[True, True, False]]))
    assert log_prob.item() == pytest.approx(np.log(0.6), rel=1e-6)
    assert entropy.item() == pytest.approx(-0.4 * np.log(0.4) - 0.6 * np.log(0.6), rel=1e-6)
    (gradient,) = torch.autograd.grad(entropy.sum(), logits)
    assert gradient.isfinite().all() and gradient[0, 2] == 0.0


@pytest.mark.parametrize("settings", [{"paradigm": p} for p in PARADIGMS] + [{"reward": "own"}], ids=str)
def test_gradients_are_those_of_finite_differences(settings: dict[str, Any]) -> None:
    algo = built("masked", **settings, clip_param=0.05)
    learner = learner_of(algo)
    module = learner.agents_module
    batch = learner.judged(steps_of(algo))
    module.double()
    batch = {name: v.double() if v.is_floating_point() else v for name, v in batch.items()}
    # As after some steps: policies have left the old one, within the clip and beyond.
    batch["old_log_prob"] += 0.1 * torch.randn(batch["old_log_prob"].shape, generator=torch.Generator().manual_seed(0))

    def loss() -> torch.Tensor:
        total: torch.Tensor = learner.loss(batch, module._forward_train(batch)).total
        return total

    for parameter in [*module.actor.parameters(), *module.critic.parameters()]:
        (gradient,) = torch.autograd.grad(loss(), parameter)
        at, values, flat = int(gradient.abs().argmax()), [], parameter.detach().view(-1)
        for step in (1e-6, -1e-6):
            flat[at] += step
            values.append(loss().item())
            flat[at] -= step
        assert gradient.view(-1)[at].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-7)
    algo.stop()


def test_a_central_agents_ratio_is_that_of_the_joint_probability() -> None:
    algo = built("masked", paradigm="centralized")
    steps = steps_of(algo)
    rows = learner_of(algo).judged(steps)
    # Nearly uniform at first: in state 0 agent 0 has two legal actions and agent 1 has one, in state 1 both have three.
    first = rows["obs"][:, 0, 0] == 1.0
    torch.testing.assert_close(
        rows["old_log_prob"][:, 0], torch.where(first, -np.log(2.0), -np.log(9.0)).float(), atol=0.02, rtol=0.0
    )
    algo.stop()


def test_who_does_not_act_has_no_policy_loss() -> None:
    """Stations with nothing to send: their rows have advantages, but no gradient."""
    config = PPOConfig().environment(
        "channel_access", env_config={"num_stations": 3, "saturated": False, "arrival_rate": 0.001}
    )
    config.training(**SMALL, entropy_coeff=0.1).num_envs_per_env_runner = 4
    algo = config.build_algo()
    learner = learner_of(algo)
    batch = learner.judged(steps_of(algo, 60))
    outputs = learner.agents_module._forward_train(batch)
    (gradient,) = torch.autograd.grad(learner.loss(batch, outputs).total, outputs["action_dist_inputs"])
    acting = batch["acting"]
    assert 0.0 < acting.float().mean() < 1.0
    assert not gradient[~acting].any() and gradient[acting].any(dim=-1).float().mean() > 0.9
    algo.stop()


# ------------------------------------------------------------------------------------------------ advantages


def test_advantages_are_their_definition() -> None:
    """The sum of (lambda gamma)^k delta_{t+k} up to the episode's end, for random rewards, durations and ends."""
    random, lambda_ = np.random.default_rng(0), 0.8
    shape = (30, 4, 2)
    rewards, values, new_values = (random.normal(size=shape) for _ in range(3))
    discounts, ends = random.uniform(0.5, 1.0, (30, 4, 1)), random.random((30, 4, 1)) < 0.2
    discounts[(random.random((30, 4, 1)) < 0.5) & ends] = 0.0  # these terminate, the other ends are cut off
    r, d, v, w, e = (torch.from_numpy(x) for x in (rewards, discounts, values, new_values, ends))
    found = advantages(r, d, v, w, e, lambda_).numpy()
    deltas = rewards + discounts * new_values - values
    for t in range(30):
        for b in range(4):
            expected, weight = np.zeros(2), 1.0
            for s in range(t, 30):
                expected += weight * deltas[s, b]
                weight *= lambda_ * discounts[s, b, 0]
                if ends[s, b, 0]:
                    break
            np.testing.assert_allclose(found[t, b], expected, atol=1e-12)


def test_steps_are_those_of_the_game() -> None:
    game = GAMES["additive_chain"]
    env = make_env("table_game", 5, game="additive_chain")
    policy = NetworkPolicy(StackedMLP(2, (2, 3)), env.agents, epsilon=1.0)
    steps = {name: column.numpy() for name, column in collect(Rollout(env, policy), 50, with_state=True).items()}
    state, following = steps["obs"][:, :, 0].argmax(-1), steps["new_obs"][:, :, 0].argmax(-1)
    at = (state, steps["actions"][..., 0], steps["actions"][..., 1])
    np.testing.assert_allclose(steps["rewards"], np.repeat(game.reward[at][..., None], 2, axis=-1))
    np.testing.assert_array_equal(following, game.successor[at])
    # Episodes are cut off after 20 steps and begin in state 0.
    assert (steps["ends"] == (np.arange(50) % 20 == 19)[:, None]).all() and not steps["terminateds"].any()
    for column in ("obs", "state"):
        goes_on = ~steps["ends"][:-1]
        np.testing.assert_array_equal(steps[column][1:][goes_on], steps[f"new_{column}"][:-1][goes_on])
    assert (state[20::20] == 0).all() and (following[19::20] != 0).any()


@pytest.mark.parametrize("paradigm", ["ctde", "independent"])
def test_time_limits_are_bootstrapped_through(paradigm: str) -> None:
    """Cut off after three steps, `endless` is worth 1 / (1 - gamma) = 10; ending there, it would be worth 1 + .9 + .81."""
    algo = learned("endless", paradigm=paradigm, entropy_coeff=0.0)
    rows = steps_of(algo)
    column = "obs" if paradigm == "independent" else "state"
    with torch.no_grad():
        values = learner_of(algo).agents_module.values(rows[column])
    assert greedy_reward(algo) == 1.0
    np.testing.assert_allclose(values.numpy(), 10.0, rtol=0.05)
    algo.stop()


@pytest.mark.parametrize(("discount", "first"), [("time", 0), ("decision", 1)])
def test_the_discount_counts_time_or_decisions(discount: str, first: int) -> None:
    """In `slow` the row agent's action 1 earns 2.5 instead of 1 in 3 units of time instead of 1, with 14 to come at .9 a unit."""
    algo = learned("slow", discount=discount, entropy_coeff=0.0)
    best = optimal_q(GAMES["slow"] if discount == "time" else replace(GAMES["slow"], duration=np.ones((2, 2, 2))), 0.9)
    assert best[0].max(1).argmax() == first
    rollout = Rollout(make_env("table_game", 1, game="slow"), algo._policy("greedy"))
    rollout.advance()
    assert rollout.actions[0, 0] == first
    algo.stop()


# ------------------------------------------------------------------------------------------------ scales


def test_new_moments_of_returns_change_no_value() -> None:
    algo = built("additive", reward="own")
    module = learner_of(algo).agents_module
    states = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))[:, : module.model_config["critic_inputs"]]
    for scale in (1.0, 300.0, 5.0):
        before = module.values(states)
        module.see_returns(scale * torch.randn(200, 2, generator=torch.Generator().manual_seed(1)) - scale)
        torch.testing.assert_close(module.values(states), before, rtol=1e-4, atol=1e-4 * scale)
    algo.stop()


def test_moments_are_those_of_what_was_seen_and_constants_are_left_alone() -> None:
    random = torch.Generator().manual_seed(0)
    seen = torch.randn(5, 100, 2, generator=random) * torch.tensor([3.0, 0.0]) + torch.tensor([1e4, 7.0])
    moments = Moments(2)
    for batch in seen:
        moments.see(batch)
    rows = seen.reshape(-1, 2).double()
    torch.testing.assert_close(moments.mean.double(), rows.mean(0), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(moments.std[0].double(), rows[:, 0].std(correction=0), rtol=1e-4, atol=0.0)
    assert moments.std[1] == 1.0
    torch.testing.assert_close(moments.restore(moments.standardise(seen)), seen)


# ------------------------------------------------------------------------------------------------ gradient steps


def test_a_pass_takes_every_row_once_in_a_new_order() -> None:
    rows = OnPolicyRows(seed=0)
    rows.replace({"actions": torch.arange(50)})
    batches = rows.iter_torch_batches(batch_size=16)
    passes = [torch.cat([next(batches)["agents/actions"] for _ in range(4)]) for _ in range(2)]
    assert all(sorted(p.tolist()) == list(range(50)) for p in passes) and passes[0].tolist() != passes[1].tolist()
    alone = OnPolicyRows(seed=0, last_minibatch_only=True)
    alone.replace({"actions": torch.arange(48)})
    lone = alone.iter_torch_batches(batch_size=16)
    assert all(len(next(lone)["agents/actions"]) == 16 for _ in range(3))


@pytest.mark.parametrize(("last_only", "steps"), [(False, 2 * 2 * 6), (True, 2 * 2)])
def test_gradient_steps_of_an_iteration(last_only: bool, steps: int) -> None:
    """Two updates of two passes over 12 * 16 rows in minibatches of 32: six, or one that survives."""
    algo = built("additive", last_minibatch_only=last_only)
    algo.train()
    (optimizer,) = learner_of(algo)._named_optimizers.values()
    assert {int(state["step"]) for state in optimizer.state.values()} == {steps}
    algo.stop()


def test_the_step_size_falls_to_its_end_and_the_clip_is_not_divided_unless_told() -> None:
    algo = built("additive", lr=6e-3)
    rates = [algo.train()["learners"]["agents"]["lr"] for _ in range(3)]
    # Two updates an iteration, six in all; what is shown is the mean of an iteration.
    np.testing.assert_allclose(rates, [6e-3 * (1 - k / 6) for k in (0.5, 2.5, 4.5)], rtol=1e-6)
    assert algo.finished and learner_of(algo)._clip == 0.2
    algo.stop()
    handicapped = built("additive", clip_by_agents=True, anneal_lr=False)
    assert learner_of(handicapped)._clip == 0.1
    handicapped.train()
    (optimizer,) = learner_of(handicapped)._named_optimizers.values()
    assert optimizer.param_groups[0]["lr"] == 5e-3
    handicapped.stop()


# ------------------------------------------------------------------------------------------------ games


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_the_best_joint_action_is_found(paradigm: str) -> None:
    """Action 2 and 0 pay 3 + 2 in state 0, where an episode begins and then stays."""
    algo = learned("additive_chain", paradigm=paradigm)
    assert greedy_reward(algo) == 5.0
    algo.stop()


def test_a2c_finds_it_too() -> None:
    algo = learned(
        "additive_chain", paradigm="centralized", clip_param=None, num_epochs=1, lambda_=1.0,
        train_batch_size_per_learner=1000, num_iterations=60,
    )  # fmt: skip
    assert greedy_reward(algo) == 5.0
    algo.stop()


@pytest.mark.parametrize("paradigm", ["ctde", "centralized"])
def test_masked_actions_are_never_taken(paradigm: str) -> None:
    """In `masked` the forbidden action would pay 10 more; of the legal ones the best pay 1 + 2, then 3 + 2."""
    algo = learned("masked", paradigm=paradigm)
    policy = algo.policy()
    statistics = run(make_env("table_game", 8, strict=True, game="masked"), policy, steps=100)
    assert statistics["illegal_actions"].sum() == 0
    assert greedy_reward(algo) == (3.0 + 5.0) / 2
    algo.stop()


@pytest.mark.parametrize(
    ("paradigm", "reward", "choice"), [("ctde", "own", 0), ("independent", "own", 0), ("independent", "common", 1)]
)
def test_agents_maximise_their_own_or_the_common_reward(paradigm: str, reward: str, choice: int) -> None:
    """The row agent's action 0 earns it 1 and costs the other 2."""
    algo = learned("own_rewards", paradigm=paradigm, reward=reward)
    rollout = Rollout(make_env("table_game", 4, game="own_rewards"), algo._policy("greedy"))
    rollout.advance()
    assert (rollout.actions[:, 0] == choice).all()
    algo.stop()


# ------------------------------------------------------------------------------------------------ as an algorithm


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_a_run_that_was_cut_goes_on_bit_for_bit(paradigm: str, tmp_path: Path) -> None:
    settings = {**SMALL, "num_envs_per_env_runner": 8, "paradigm": paradigm}
    given: dict[str, Any] = {"env_config": {"num_devices": 3}, "settings": settings}
    whole = train("ppo", "task_offloading", out=tmp_path / "whole", **given)
    train("ppo", "task_offloading", out=tmp_path / "cut", iterations=1, **given)
    assert resume_run(tmp_path / "cut") == whole and whole["iteration"] == 3
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    policy = load_policy(tmp_path / "cut/policy")
    assert policy.centralized == (paradigm == "centralized")
    measured = evaluate(tmp_path / "cut", "task_offloading", {"num_devices": 3}, episodes=64).metrics()
    assert measured["discounted_cost"]["mean"] > 0.0


def test_a_factored_policy_is_portable_and_draws_each_agents_own_law(tmp_path: Path) -> None:
    env = make_env("task_offloading", 4000, num_devices=2)
    network = StackedMLP(1, (4, 6))
    with torch.no_grad():
        network.weights[0].zero_()
        network.biases[0][:] = torch.log(torch.tensor([0.5, 0.2, 0.3, 0.1, 0.6, 0.3]))
    policy = FactoredNetworkPolicy(network, env.agents, 3)
    save_policy(policy, tmp_path / "p", env="task_offloading", env_config={"num_devices": 2})
    drawn = []
    for each in (policy, load_policy(tmp_path / "p")):
        rollout = Rollout(env, each)
        rollout.advance()
        drawn.append(rollout.actions)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    laws = np.stack([np.bincount(drawn[0][:, i], minlength=3) / 4000 for i in range(2)])
    np.testing.assert_allclose(laws, [[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]], atol=0.03)
    with pytest.raises(UserError, match="the policy is centralized"):
        policy.slice(0)
    extra, tensors = policy.to_portable()
    with pytest.raises(DataError, match="not the logits of 2 agents with 2 actions"):
        FactoredNetworkPolicy.from_portable({**extra, "num_actions": 2}, tensors, env.agents)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paradigm": "centralized", "reward": "own"}, "needs agents that learn for themselves"),
        ({"clip_param": None, "clip_by_agents": True}, "needs a clip_param to divide"),
        ({"clip_param": 0.0}, "clip_param = 0.0, but it should be greater than 0"),
        ({"dataset_num_iters_per_learner": 5}, "there is no such field"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PPOConfig().environment("table_game").training(**settings).validate()


def test_data_and_several_learners_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this algorithm learns without data"):
        PPOConfig().environment("table_game").offline_data(input_=tmp_path).validate()
    with pytest.raises(ConfigError, match="num_learners = 2"):
        PPOConfig().environment("table_game").learners(num_learners=2).validate()
