"""The planner against decision processes that are solved exactly by other means.

The first part looks at channel access as one station sees it under the data's policy: all others transmit in an idle slot
with Bianchi's probability tau, whatever happened before. One state, two actions, three outcomes, everything in closed form.
"""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.layout import Outcomes
from rllib_wireless.algorithms.fedmorl.planner import FiniteModel, elapsed, finite_model, nearest, solve, state_value

BUSY = 124  # slots of a packet with DIFS
CW_MIN, STAGES = 7, 7  # CSMA/CA 7/1023

# Stations: Q(transmit) - Q(defer), rewards due at the end of a busy period: myopic, average reward, gamma = .999 a slot.
# Computed independently of this package, by an exact analysis of the same chain.
REFERENCE = {
    2: (0.465, -0.180, -0.158),
    3: (0.229, -0.265, -0.234),
    4: (0.103, -0.308, -0.272),
    5: (0.024, -0.333, -0.294),
    6: (-0.031, -0.350, -0.309),
    7: (-0.073, -0.363, -0.320),
    8: (-0.106, -0.372, -0.329),
    9: (-0.133, -0.379, -0.335),
    10: (-0.155, -0.386, -0.341),
    11: (-0.175, -0.391, -0.345),
    12: (-0.191, -0.395, -0.349),
    13: (-0.206, -0.399, -0.353),
    14: (-0.220, -0.403, -0.356),
}


def bianchi_tau(stations: int) -> float:
    """Bianchi's transmission probability, backoff decremented also by busy periods, no retry limit."""

    def excess(tau: float) -> float:
        p = 1 - (1 - tau) ** (stations - 1)
        w = CW_MIN + 1
        return tau - 2 / (1 + w + p * w * sum((2 * p) ** i for i in range(STAGES)))

    return float(brentq(excess, 1e-6, 0.999))


class OneStation:
    """The exact model of what one station sees; its observation is constant."""

    def __init__(self, stations: int, gamma: float) -> None:
        tau = bianchi_tau(stations)
        self.tau, n = tau, stations - 1
        alone, one = (1 - tau) ** n, n * tau * (1 - tau) ** (n - 1)
        # Outcomes: idle, success, collision.
        self.prob = torch.tensor([[alone, one, 1 - alone - one], [0.0, alone, 1 - alone]], dtype=torch.float64)
        # A reward at the end of a busy period is worth less at its start.
        self.reward = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64) * gamma**BUSY
        self.duration = torch.tensor([1.0, BUSY, BUSY], dtype=torch.float64)

    @property
    def reward_rate(self) -> float:
        """Of the data's policy."""
        policy = torch.tensor([1 - self.tau, self.tau], dtype=torch.float64)
        mean = policy @ self.prob
        return float((mean @ self.reward) / (mean @ self.duration))

    def outcomes(self, obs: Tensor) -> Outcomes:
        shape = (len(obs), 2, 3)
        return Outcomes(
            prob=self.prob.expand(shape).float(),
            reward=self.reward.expand(shape).float(),
            cost=torch.zeros(shape),
            duration=self.duration.expand(shape).float(),
            terminated=torch.zeros(shape),
            obs=torch.zeros(*shape, 1),
            std=torch.zeros(*shape, 1),
        )

    def sample(self, obs: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        return obs + std * noise

    def difference(self, gamma: float, rho: float, horizon: int | None) -> float:
        """Q(transmit) - Q(defer) under the data's policy, as the planner finds it."""
        finite = reduced(self, torch.zeros(1, 1), gamma, rho)
        q = solve(finite, torch.tensor([[1 - self.tau, self.tau]]), "data", horizon, 0.0)
        return float(q[0, 1] - q[0, 0])


def reduced(model: object, anchors: Tensor, gamma: float, rho: float) -> FiniteModel:
    generator = torch.Generator().manual_seed(0)
    metric = torch.ones(anchors.shape[1])
    return finite_model(model, anchors, metric, gamma=gamma, rho=rho, neighbours=1, generator=generator)  # type: ignore[arg-type]


@pytest.mark.parametrize("stations", REFERENCE)
def test_with_the_exact_model_the_planner_finds_the_exact_differences(stations: int) -> None:
    myopic, average, discounted = REFERENCE[stations]
    undiscounted, patient = OneStation(stations, 1.0), OneStation(stations, 0.999)
    rho = undiscounted.reward_rate
    # The tables are rounded to three digits.
    assert undiscounted.difference(1.0, 0.0, horizon=1) == pytest.approx(myopic, abs=0.001)
    assert undiscounted.difference(1.0, rho, horizon=1) == pytest.approx(average, abs=0.001)
    assert patient.difference(0.999, 0.0, horizon=None) == pytest.approx(discounted, abs=0.001)


@pytest.mark.parametrize("horizon", [1, 2, 10, 40])
def test_any_depth_is_exact_where_rewards_are_scored_against_the_data_s_rate(horizon: int) -> None:
    """The state never changes, so decisions after the first are worth nothing more than the rate that is taken off."""
    model = OneStation(8, 1.0)
    assert model.difference(1.0, model.reward_rate, horizon) == pytest.approx(REFERENCE[8][1], abs=0.001)


def test_a_shallow_tree_counted_in_decisions_has_the_wrong_sign_without_that_rate() -> None:
    model = OneStation(2, 0.999)
    assert model.difference(0.999, 0.0, horizon=1) > 0.4
    assert model.difference(0.999, model.reward_rate, horizon=1) < 0


@pytest.mark.parametrize("rho", [0.001, 0.01])
def test_over_an_infinite_horizon_the_reference_rate_changes_no_difference(rho: float) -> None:
    model = OneStation(5, 0.999)
    assert model.difference(0.999, rho, None) == pytest.approx(model.difference(0.999, 0.0, None), abs=2e-3)


class Chain:
    """A random decision process of S states; observations are one-hot."""

    def __init__(self, states: int, actions: int, seed: int) -> None:
        g = np.random.default_rng(seed)
        self.transition = g.dirichlet(np.full(states, 0.5), (states, actions))
        self.reward = g.normal(size=(states, actions, states))
        self.duration = g.integers(1, 60, (states, actions, states)).astype(float)
        self.policy = g.dirichlet(np.ones(actions), states)

    @property
    def anchors(self) -> Tensor:
        return torch.eye(len(self.transition))

    def outcomes(self, obs: Tensor) -> Outcomes:
        state = obs.argmax(-1).numpy()
        prob, reward, duration = (
            torch.tensor(x[state], dtype=torch.float32) for x in (self.transition, self.reward, self.duration)
        )
        following = torch.eye(obs.shape[1]).expand(*prob.shape, -1)
        nothing = torch.zeros_like(prob)
        return Outcomes(prob, reward, nothing, duration, nothing, following, torch.zeros_like(following))

    def sample(self, obs: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        return obs

    def value_iteration(self, gamma: float, value: str, steps: int) -> np.ndarray:
        """Q-values [S, A] after this many steps from zero."""
        q = np.zeros(self.policy.shape)
        for _ in range(steps):
            v = (self.policy * q).sum(-1) if value == "data" else q.max(-1)
            q = (self.transition * (self.reward + gamma**self.duration * v)).sum(-1)
        return q

    def planned(self, gamma: float, value: str, horizon: int | None, rho: float = 0.0) -> np.ndarray:
        policy = torch.tensor(self.policy, dtype=torch.float32)
        finite = reduced(self, self.anchors, gamma, rho)
        return solve(finite, policy, value, horizon, 0.0).numpy()  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_the_value_of_the_data_s_policy_solves_its_linear_equations(seed: int) -> None:
    chain, gamma = Chain(6, 3, seed), 0.99
    # Q = R + M V, V = policy . Q: one linear system.
    m = chain.transition * gamma**chain.duration
    r = (chain.transition * chain.reward).sum(-1)
    v = np.linalg.solve(np.eye(6) - np.einsum("sa,sat->st", chain.policy, m), (chain.policy * r).sum(-1))
    np.testing.assert_allclose(chain.planned(gamma, "data", None), r + m @ v, atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_maximum_over_actions_is_found_by_long_value_iteration_too(seed: int) -> None:
    chain = Chain(6, 3, seed)
    exact = chain.value_iteration(0.99, "max", steps=3000)
    np.testing.assert_allclose(chain.planned(0.99, "max", None), exact, atol=2e-3)


@pytest.mark.parametrize("value", ["data", "max"])
@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_a_finite_horizon_is_that_many_steps_of_dynamic_programming(value: str, horizon: int) -> None:
    chain = Chain(6, 3, seed=3)
    exact = chain.value_iteration(0.99, value, horizon)
    np.testing.assert_allclose(chain.planned(0.99, value, horizon), exact, atol=1e-5)


@pytest.mark.parametrize("value", ["data", "max"])
def test_the_reference_rate_takes_the_same_constant_off_every_value(value: str) -> None:
    chain, gamma, rho = Chain(6, 3, seed=4), 0.99, 0.05
    shift = chain.planned(gamma, value, None) - chain.planned(gamma, value, None, rho)
    np.testing.assert_allclose(shift, rho / (1 - gamma), atol=1e-2)


def test_actions_that_the_data_hardly_ever_take_are_not_planned_with() -> None:
    q, policy = torch.tensor([[1.0, 2.0, 50.0]]), torch.tensor([[0.5, 0.4999, 0.0001]])
    assert state_value(q, policy, "max", 0.001).item() == 2.0
    assert state_value(q, policy, "max", 0.0).item() == 50.0
    assert state_value(q, policy, "data", 0.001).item() == pytest.approx(0.5 + 0.9998 + 0.005)


def test_a_constant_reward_rate_is_worth_its_discounted_time() -> None:
    duration = torch.tensor([1.0, 10.0, 124.0])
    slots = [sum(0.999**s for s in range(int(d))) for d in duration]
    torch.testing.assert_close(elapsed(duration, 0.999**duration, 0.999), torch.tensor(slots), rtol=1e-4, atol=0.0)
    torch.testing.assert_close(elapsed(duration, torch.ones(3), 1.0), duration)
    after_the_end = elapsed(duration, torch.zeros(3), 0.999)
    torch.testing.assert_close(after_the_end, torch.full((3,), 1000.0), rtol=1e-4, atol=0.0)


def test_neighbours_interpolate_and_an_anchor_is_its_own_neighbour() -> None:
    anchors, metric = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 5.0]]), torch.tensor([1.0, 1.0])
    index, weight = nearest(torch.tensor([[1.0, 0.0], [0.25, 0.0]]), anchors, metric, 2)
    assert index[0, 0] == 1
    assert weight[0, 0] == pytest.approx(1.0, abs=1e-4)
    assert (weight.sum(1) == pytest.approx(1.0)) and set(index[1].tolist()) == {0, 1}
    value = (weight[1] * torch.tensor([0.0, 1.0, 9.0])[index[1]]).sum()
    assert value == pytest.approx(0.25, abs=1e-4)  # inverse distances are linear between two points
    # A field that the metric ignores makes no neighbour.
    index, _ = nearest(torch.tensor([[0.0, 100.0]]), anchors, torch.tensor([1.0, 0.0]), 1)
    assert index[0, 0] in (0, 2)
