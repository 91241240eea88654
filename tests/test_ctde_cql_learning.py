"""What CTDE-CQL learns, against dynamic programming, closed forms and finite differences on games given by tables."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from table_game import GAMES, SPEC, optimal_q, play, tables

from rllib_wireless.algorithms.ctde_cql.ctde_cql import CTDECQL, CTDECQLConfig
from rllib_wireless.algorithms.ctde_cql.mixing import MonotonicMixer
from rllib_wireless.algorithms.losses import conservative_gap
from rllib_wireless.envs import make_env, registry
from rllib_wireless.policies import NetworkPolicy, StackedMLP
from rllib_wireless.policies.evaluation import run

Floats = npt.NDArray[np.float64]
GAMMA = 0.9
SETTINGS = {"fcnet_hiddens": (32,), "lr": 5e-3, "tau": 0.05, "cql_alpha": 0.0, "train_batch_size_per_learner": 128}


@pytest.fixture(autouse=True)
def table_game(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._SPECS, "table_game", SPEC)


def config(game: str, data: Path, **settings: Any) -> CTDECQLConfig:
    made = CTDECQLConfig().environment("table_game", env_config={"game": game}).offline_data(input_=data)
    return made.training(**(SETTINGS | settings))


def learned(game: str, data: Path, steps: int = 800, **settings: Any) -> CTDECQL:
    """Train on the data set, which is uniform play if there is none yet."""
    if not data.exists():
        play(game, 2000, data)
    algo: CTDECQL = config(game, data, dataset_num_iters_per_learner=steps, **settings).build_algo()
    algo.train()
    return algo


def utilities(algo: CTDECQL) -> Floats:
    """Q-values of the first critic in the environment's rewards, [S, N, A] for every agent; N = 1 where centralized."""
    module = algo.learner_group._learner.agents_module
    n, scaling = module.num_agents, module.scaling
    states = torch.eye(len(GAMES[algo.config.env_config["game"]].reward))
    obs = states if n == 2 else states.repeat(1, 2)
    with torch.no_grad():
        q = module.critic.part(0, n)(obs[:, None].repeat(1, n, 1))
    # Of a sum of two values each has half of the offset.
    share = 1 if algo.config.paradigm != "ctde" else 2
    values: Floats = ((q + scaling.value_offset / share) * scaling.reward_scale).double().numpy()
    return values


def greedy_reward(algo: CTDECQL, steps: int = 40) -> float:
    """Mean reward of the policy that acts greedily."""
    env = make_env("table_game", 2, game=algo.config.env_config["game"])
    statistics = run(env, algo.policy(), steps=steps)
    return float(statistics["reward"].sum() / statistics["steps"].sum())


# ------------------------------------------------------------------------------------------------ fixed points


@pytest.mark.parametrize("game", ["climbing", "two_step", "slow", "masked"])
def test_centralized_dqn_finds_the_fixed_point_of_the_bellman_operator(game: str, tmp_path: Path) -> None:
    algo = learned(game, tmp_path / "data", paradigm="centralized", backbone="dqn")
    expected = optimal_q(GAMES[game], GAMMA)
    q = utilities(algo).reshape(expected.shape)
    legal = np.isfinite(expected)
    np.testing.assert_allclose(q[legal], expected[legal], atol=0.25)
    algo.stop()


def test_centralized_sac_finds_the_fixed_point_of_the_soft_bellman_operator(tmp_path: Path) -> None:
    """With a fixed temperature T, V = T logsumexp(Q / T) and the policy is the softmax of Q / T."""
    temperature = 2.0
    settings = {"reward_scale": 1.0, "temperature": temperature, "num_critics": 1}
    algo = learned("slow", tmp_path / "data", 1200, paradigm="centralized", **settings)

    def soft(q: Floats) -> float:
        return float(temperature * np.log(np.exp(q / temperature).sum()))

    expected = optimal_q(GAMES["slow"], GAMMA, soft)
    np.testing.assert_allclose(utilities(algo).reshape(expected.shape), expected, atol=0.5)
    with torch.no_grad():
        logits = algo.network("actor")(torch.eye(2).repeat(1, 2)[:, None])
    probabilities = torch.softmax(logits, -1).numpy().reshape(2, 4)
    by_q = np.exp((expected - expected.max((1, 2), keepdims=True)) / temperature).reshape(2, 4)
    np.testing.assert_allclose(probabilities, by_q / by_q.sum(1, keepdims=True), atol=0.05)
    algo.stop()


@pytest.mark.parametrize("backbone", ["dqn", "sac"])
def test_the_sum_recovers_the_optimum_that_it_can_represent(backbone: str, tmp_path: Path) -> None:
    """In `additive_chain` Q*(s, a) is a sum over agents, so that both the values and the play are optimal."""
    extra = {"temperature": 0.01, "num_critics": 1} if backbone == "sac" else {}
    algo = learned("additive_chain", tmp_path / "data", 1200, backbone=backbone, **extra)
    expected = optimal_q(GAMES["additive_chain"], GAMMA)
    q = utilities(algo)
    total = q[:, 0, :, None] + q[:, 1, None, :]
    np.testing.assert_allclose(total, expected, atol=0.5)
    best = expected.reshape(2, -1).argmax(1)
    assert [total[s].argmax() for s in range(2)] == best.tolist()
    assert greedy_reward(algo) == pytest.approx(GAMES["additive_chain"].reward.reshape(2, -1)[0, best[0]])
    algo.stop()


@pytest.mark.parametrize("mixer", ["sum", "monotonic"])
def test_the_mixers_in_the_two_step_game(mixer: str, tmp_path: Path) -> None:
    """Of the game that QMIX was made for, 8 is monotonic and no sum: fitted by a sum, the safe 7 looks better than 6.5."""
    algo = learned("two_step", tmp_path / "data", 1500, backbone="dqn", mixer=mixer)
    # Two steps an episode, of which the second one pays.
    assert 2 * greedy_reward(algo) == {"sum": 7.0, "monotonic": 8.0}[mixer]
    algo.stop()


@pytest.mark.parametrize("paradigm", ["centralized", "ctde", "independent"])
def test_only_centralized_training_climbs(paradigm: str, tmp_path: Path) -> None:
    """In the climbing game only the joint action tells the best reward, 11, from its surroundings.

    From uniform play, independent agents look at the means of rows and columns; so does a sum of two values, whose least
    squares are those means less their mean.
    """
    payoffs = GAMES["climbing"].reward[0]
    algo = learned("climbing", tmp_path / "data", paradigm=paradigm, backbone="dqn")
    best_by_means = payoffs[payoffs.mean(1).argmax(), payoffs.mean(0).argmax()]
    assert payoffs.max() == 11.0 and best_by_means == 5.0
    assert greedy_reward(algo) == (11.0 if paradigm == "centralized" else 5.0)
    algo.stop()


def test_independent_agents_learn_from_their_own_rewards(tmp_path: Path) -> None:
    """The row agent decides; it earns 1, the column agent loses 2."""
    algo = learned("own_rewards", tmp_path / "data", paradigm="independent", backbone="dqn")
    np.testing.assert_allclose(utilities(algo)[0], [[1.0, 0.0], [-1.0, -1.0]], atol=0.1)
    algo.stop()


def test_time_limits_are_bootstrapped_through(tmp_path: Path) -> None:
    """Cut off after three steps, `endless` is still worth 1 / (1 - gamma) = 10."""
    algo = learned("endless", tmp_path / "data", paradigm="centralized", backbone="dqn")
    np.testing.assert_allclose(utilities(algo)[0, 0], [9.0, 9.5, 9.5, 10.0], atol=0.1)
    algo.stop()


@pytest.mark.parametrize("discount", ["time", "decision"])
def test_the_discount_counts_time_or_decisions(discount: str, tmp_path: Path) -> None:
    game = GAMES["slow"] if discount == "time" else tables(GAMES["slow"].reward, GAMES["slow"].successor)
    algo = learned("slow", tmp_path / "data", paradigm="centralized", backbone="dqn", discount=discount, gamma=0.8)
    np.testing.assert_allclose(utilities(algo).reshape(2, 2, 2), optimal_q(game, 0.8), atol=0.15)
    algo.stop()


# ------------------------------------------------------------------------------------------------ conservatism


def test_the_conservative_gradient_is_that_of_finite_differences() -> None:
    """And in closed form: the softmax over the legal actions less the logged action."""
    random = torch.Generator().manual_seed(0)
    q = torch.randn(6, 2, 4, generator=random, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(0, 3, (6, 2, 1), generator=random)
    mask = torch.tensor([True, True, True, False]).expand(6, 2, 4)

    def gap(q: torch.Tensor) -> torch.Tensor:
        return conservative_gap(q, q.gather(-1, actions)[..., 0], mask)

    assert torch.autograd.gradcheck(gap, (q,))
    (gradient,) = torch.autograd.grad(gap(q).sum(), q)
    expected = torch.softmax(q.detach().masked_fill(~mask, -math.inf), -1)
    expected.scatter_add_(-1, actions, torch.full_like(expected, -1.0))
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("settings", [{}, {"mixer": "monotonic"}, {"backbone": "dqn"}, {"paradigm": "centralized"}])
def test_gradients_of_the_losses_are_those_of_finite_differences(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play("masked", 200, tmp_path / "data")
    algo = config("masked", tmp_path / "data", **{"cql_alpha": 1.0, "temperature": 0.5, **settings}).build_algo()
    learner = algo.learner_group._learner
    module = learner.agents_module.double()
    rows = next(algo._iterators[0].iter_torch_batches(batch_size=32))
    columns = {name.removeprefix("agents/"): v.double() if v.is_floating_point() else v for name, v in rows.items()}
    batch = learner.arrange(columns)
    # Targets move with the networks that they are made of, and are constants to the gradient.
    target = learner._target(batch, module._forward_train(batch))
    monkeypatch.setattr(learner, "_target", lambda batch, outputs: target)

    def critic() -> torch.Tensor:
        return learner._critic_loss(batch, module._forward_train(batch), None)[0]  # type: ignore[no-any-return]

    def actor() -> torch.Tensor:
        return learner._actor_loss(batch, module._forward_train(batch), None)[0]  # type: ignore[no-any-return]

    for loss, networks in ((critic, [module.critic, module.mixer]), (actor, [module.actor] if module.actor else [])):
        for parameter in [p for network in networks for p in network.parameters()]:
            (gradient,) = torch.autograd.grad(loss(), parameter)
            at, values, flat = int(gradient.abs().argmax()), [], parameter.detach().view(-1)
            for step in (1e-6, -1e-6):
                flat[at] += step
                values.append(loss().item())
                flat[at] -= step
            assert gradient.view(-1)[at].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-7)
    algo.stop()


def test_with_a_large_weight_the_policy_is_that_of_the_data(tmp_path: Path) -> None:
    """The minimiser of logsumexp Q - Q(a_data) has softmax(Q) = the data's policy."""
    network = StackedMLP(2, (3, 2))
    with torch.no_grad():
        network.weights[0][:] = torch.tensor(
            [[[0.0, 1.0], [0.5, 0.0], [2.0, 0.0]], [[1.5, 0.0], [0.0, 0.0], [0.0, 1.0]]]
        )
        network.biases[0][:] = 0.0
    play("two_step", 6000, tmp_path / "data", NetworkPolicy(network, ("row", "column")))
    settings = {"backbone": "dqn", "paradigm": "independent", "cql_alpha": 1000.0}
    algo = learned("two_step", tmp_path / "data", 1000, lr=2e-3, train_batch_size_per_learner=512, **settings)
    states = torch.eye(3)[:, None].repeat(1, 2, 1)
    with torch.no_grad():
        softmax = torch.softmax(algo.network("critic")(states), -1)
        behaviour = torch.softmax(network(states), -1)
    # 6,000 rows leave a standard error of .01 a state.
    torch.testing.assert_close(softmax, behaviour, atol=0.03, rtol=0.0)
    algo.stop()


@pytest.mark.parametrize(("backbone", "paradigm"), [("dqn", "ctde"), ("sac", "ctde"), ("sac", "centralized")])
def test_an_action_absent_from_the_data_is_pushed_down(backbone: str, paradigm: str, tmp_path: Path) -> None:
    """Uniform play of the first two actions of `additive`; the third would pay most, but nothing is known of it."""
    network = StackedMLP(2, (1, 3))
    with torch.no_grad():
        network.biases[0][:] = torch.tensor([0.0, 0.0, -50.0])
        network.weights[0][:] = 0.0
    play("additive", 2000, tmp_path / "data", NetworkPolicy(network, ("row", "column")))
    algo = learned("additive", tmp_path / "data", backbone=backbone, paradigm=paradigm, cql_alpha=1.0)
    q = utilities(algo)[0]
    if paradigm == "centralized":
        absent = np.add.outer(np.arange(3) == 2, np.arange(3) == 2).ravel()
        assert q[0, absent].max() < q[0, ~absent].min() - 1.0
    else:
        assert (q[:, 2] < q[:, :2].min(1) - 1.0).all()
    # Of the actions in the data the best ones: 1 + 2.
    assert greedy_reward(algo) == 3.0
    algo.stop()


def test_the_named_terms_make_up_the_loss(tmp_path: Path) -> None:
    algo = learned("additive", tmp_path / "data", 200, backbone="dqn", cql_alpha=0.3)
    terms = algo.train()["learners"]["agents"]
    # What is logged of a term is its mean over the two agents, of which the loss is the sum.
    assert terms["loss"] == pytest.approx(terms["td"] + 0.3 * 2 * terms["conservative"], rel=1e-5)
    # Uniform play, and values that the conservative term hardly moves: the mean reward.
    assert terms["value"] == pytest.approx(GAMES["additive"].reward.mean(), abs=0.3)
    algo.stop()


# ------------------------------------------------------------------------------------------------ masks, mixers


@pytest.mark.parametrize("settings", [{}, {"backbone": "dqn"}, {"paradigm": "centralized"}, {"mode": "sample"}])
def test_masked_actions_are_never_chosen(settings: dict[str, Any], tmp_path: Path) -> None:
    """In `masked` the forbidden action would pay 10 more."""
    algo = learned("masked", tmp_path / "data", 200, **settings)
    statistics = run(make_env("table_game", 4, strict=True, game="masked"), algo.policy(), steps=100)
    assert statistics["illegal_actions"].sum() == 0
    algo.stop()


def test_the_monotonic_mixer_never_falls_in_any_value() -> None:
    random = torch.Generator().manual_seed(0)
    mixer = MonotonicMixer(2, 3, [0.0] * 5, [1.0] * 5, embed_dim=8, hypernet_hiddens=(16,))
    values = (4 * torch.randn(200, 2, 3, generator=random)).requires_grad_()
    mixed = mixer(values, 3 * torch.randn(200, 5, generator=random))
    (slopes,) = torch.autograd.grad(mixed.sum(), values)
    assert mixed.shape == (200, 2, 1) and (slopes >= 0.0).all() and (slopes > 0.0).float().mean() > 0.9


def test_the_mixers_weights_depend_on_the_state_and_on_the_critic() -> None:
    mixer = MonotonicMixer(2, 3, [10.0, 0.0], [5.0, 1.0], embed_dim=8, hypernet_hiddens=(16,))
    values = torch.ones(2, 2, 3)
    mixed = mixer(values, torch.tensor([[10.0, 0.0], [20.0, 1.0]]))[..., 0]
    assert len(set(mixed.flatten().tolist())) == 4
