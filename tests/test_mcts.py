"""Tree search against decision processes that are solved exactly by other means."""

import numpy as np
import pytest
import torch
from test_planner import REFERENCE, Chain, OneStation
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.layout import Model, Outcomes
from rllib_wireless.algorithms.fedmorl.mcts import Search

GAMMA = 0.99


def search(model: Model, policy: Tensor, leaf: Tensor | None = None, **changed: object) -> Search:
    """A search in a process whose observations are one-hot states; leaves are worth nothing if not given."""
    settings = {"gamma": GAMMA, "rho": 0.0, "value": "data", "simulations": 1, "depth": 100, "exploration": 1.0}
    values = torch.zeros(len(policy)) if leaf is None else leaf
    return Search(model, lambda obs: policy[obs.argmax(-1)], lambda obs: values[obs.argmax(-1)], **settings | changed)  # type: ignore[arg-type]


def plan(chain: Chain, leaf: Tensor | None = None, **changed: object) -> np.ndarray:
    policy = torch.tensor(chain.policy, dtype=torch.float32)
    return search(chain, policy, leaf, **changed).plan(chain.anchors, torch.Generator().manual_seed(0)).numpy()


@pytest.mark.parametrize("value", ["data", "max"])
@pytest.mark.parametrize("seed", range(2))
def test_a_complete_tree_is_exact_and_a_larger_tree_is_nearer_to_it(value: str, seed: int) -> None:
    """Three decisions in a process of three states and two actions: 1 + 6 + 36 nodes."""
    chain = Chain(3, 2, seed)
    exact = chain.value_iteration(GAMMA, value, 3)
    few, many = (np.abs(plan(chain, value=value, depth=3, simulations=n) - exact).max() for n in (4, 42))
    assert many < 1e-5 < few


@pytest.mark.parametrize("value", ["data", "max"])
def test_simulations_converge_to_the_values_of_an_endless_process(value: str) -> None:
    chain, gamma = Chain(3, 2, seed=6), 0.8
    exact = chain.value_iteration(gamma, value, steps=500)
    found = [plan(chain, gamma=gamma, value=value, simulations=n, depth=12) for n in (4, 20, 80)]
    errors = [np.abs(q - exact).max() for q in found]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3


@pytest.mark.parametrize("simulations", [0, 30])
def test_with_exact_leaves_trees_of_any_size_give_the_value_of_the_data_s_policy(simulations: int) -> None:
    chain = Chain(6, 3, seed=0)
    m = chain.transition * GAMMA**chain.duration
    r = (chain.transition * chain.reward).sum(-1)
    v = np.linalg.solve(np.eye(6) - np.einsum("sa,sat->st", chain.policy, m), (chain.policy * r).sum(-1))
    leaf = torch.tensor(v, dtype=torch.float32)
    np.testing.assert_allclose(plan(chain, leaf, simulations=simulations), r + m @ v, atol=1e-4)


@pytest.mark.parametrize("stations", [2, 8])
def test_leaves_of_the_average_rate_are_exact_for_a_station_whose_state_never_changes(stations: int) -> None:
    model = OneStation(stations, 1.0)
    policy = torch.tensor([[1 - model.tau, model.tau]])
    found = search(model, policy, gamma=1.0, rho=model.reward_rate, simulations=50)
    q = found.plan(torch.zeros(1, 1), torch.Generator().manual_seed(0))
    assert float(q[0, 1] - q[0, 0]) == pytest.approx(REFERENCE[stations][1], abs=0.001)  # three digits are published


def test_costs_count_at_their_weight_and_their_rate() -> None:
    class Costly(Chain):
        def outcomes(self, obs: Tensor) -> Outcomes:
            known = super().outcomes(obs)
            return known._replace(cost=known.reward.square())

    plain, costly = Chain(3, 2, seed=1), Costly(3, 2, seed=1)
    found = plan(costly, cost_weight=0.5, rho_cost=0.02, depth=2, simulations=6)
    time = (1 - GAMMA**plain.duration) / (1 - GAMMA)
    plain.reward = plain.reward - 0.5 * (plain.reward**2 - 0.02 * time)
    np.testing.assert_allclose(found, plain.value_iteration(GAMMA, "data", 2), atol=1e-4)


def test_after_an_end_comes_nothing() -> None:
    class Ending(Chain):
        def outcomes(self, obs: Tensor) -> Outcomes:
            known = super().outcomes(obs)
            return known._replace(terminated=(torch.arange(3) == 0).float().expand(known.prob.shape))

    chain = Ending(3, 2, seed=2)
    found = plan(chain, depth=3, simulations=42)
    first_ends = np.where(np.arange(3) == 0, np.inf, chain.duration)  # infinitely late is as good as never
    exact = Chain(3, 2, seed=2)
    exact.duration = first_ends
    np.testing.assert_allclose(found, exact.value_iteration(GAMMA, "data", 3), atol=1e-4)


def test_actions_rarer_than_the_support_are_not_planned_with() -> None:
    chain = Chain(3, 2, seed=4)
    chain.policy = np.array([[0.9999, 0.0001]] * 3)
    first_only = np.array([[1.0, 0.0]] * 3)
    found = plan(chain, value="max", support=0.01, depth=3, simulations=42)
    chain.policy = first_only
    np.testing.assert_allclose(found, chain.value_iteration(GAMMA, "data", 3), atol=1e-4)


class Walk:
    """A level that takes noisy steps, up under action 1; the reward is the level."""

    def outcomes(self, obs: Tensor) -> Outcomes:
        up = obs[:, None, None, :] + torch.tensor([-0.5, 0.5])[:, None, None]
        one = torch.ones(up.shape[:-1])
        return Outcomes(one, up[..., 0], 0 * one, one, 0 * one, up, torch.full_like(up, 0.3))

    def sample(self, obs: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        return obs + std * noise


def walk(roots: Tensor, seed: int = 0, simulations: int = 12) -> Tensor:
    half = torch.full((2,), 0.5)
    found = Search(
        Walk(),
        lambda obs: half.expand(len(obs), -1),
        lambda obs: torch.zeros(len(obs)),
        gamma=0.9,
        rho=0.0,
        value="data",
        simulations=simulations,
        depth=3,
        exploration=1.0,
    )
    return found.plan(roots, torch.Generator().manual_seed(seed))


def test_a_root_s_values_do_not_depend_on_the_roots_after_it() -> None:
    roots = torch.randn(1100, 1, generator=torch.Generator().manual_seed(3))
    assert torch.equal(walk(roots, simulations=4)[:5], walk(roots[:5], simulations=4))


def test_the_generator_alone_decides_the_noise_and_noise_averages_out() -> None:
    roots = torch.zeros(1000, 1)
    q = walk(roots, seed=1)
    assert torch.equal(q, walk(roots, seed=1)) and not torch.equal(q, walk(roots, seed=2))
    # By hand: the level drifts by a = +-.5 at once and by 0 on average thereafter: a (1 + .9 + .81).
    expected = torch.tensor([-0.5, 0.5]) * 2.71
    # The noise of 1,000 trees: .3 * (.9 + .81) at most, so a standard error below .017.
    torch.testing.assert_close(q.mean(0), expected, atol=0.07, rtol=0.0)
    assert float(q.std(0).min()) > 0.1  # each root has noise of its own
