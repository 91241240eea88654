"""Losses against values computed by hand and against optima known in closed form."""

import numpy as np
import pytest
import torch

from rllib_wireless.algorithms.losses import (
    cql_dqn,
    double_q_value,
    imitation,
    interval_discount,
    q_weighted_imitation,
    rows_mean,
    soft_value,
)


def test_cross_entropy_of_one_row_is_minus_log_probability() -> None:
    logits = torch.log(torch.tensor([[[0.2, 0.3, 0.5]]]))
    assert imitation(logits, torch.tensor([[2]])).total.item() == pytest.approx(-np.log(0.5), rel=1e-6)


def test_masked_actions_have_no_probability() -> None:
    logits = torch.log(torch.tensor([[[0.2, 0.3, 0.5]]]))
    mask = torch.tensor([[[True, True, False]]])
    assert imitation(logits, torch.tensor([[1]]), mask).total.item() == pytest.approx(-np.log(0.6), rel=1e-6)


def test_rows_without_a_decision_do_not_count() -> None:
    logits = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))
    actions = torch.randint(0, 3, (6, 2), generator=torch.Generator().manual_seed(1))
    acting = torch.tensor([[True, True], [True, False], [False, True], [True, True], [False, False], [True, True]])
    loss = imitation(logits, actions, acting=acting).total
    for i in range(2):
        alone = imitation(logits[acting[:, i], i : i + 1], actions[acting[:, i], i : i + 1]).total
        torch.testing.assert_close(loss[i : i + 1], alone)


def test_an_agent_without_any_decision_has_zero_loss_and_gradient() -> None:
    logits = torch.zeros(4, 1, 2, requires_grad=True)
    loss = imitation(
        logits, torch.zeros(4, 1, dtype=torch.int64), acting=torch.zeros(4, 1, dtype=torch.bool)
    ).total.sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0.0 and not gradient.any()


def test_an_agents_gradient_does_not_depend_on_the_others() -> None:
    logits = torch.randn(8, 3, 2, generator=torch.Generator().manual_seed(0))
    actions = torch.randint(0, 2, (8, 3), generator=torch.Generator().manual_seed(1))
    together, alone = logits.clone().requires_grad_(), logits[:, 1:2].clone().requires_grad_()
    (of_three,) = torch.autograd.grad(imitation(together, actions).total.sum(), together)
    (of_one,) = torch.autograd.grad(imitation(alone, actions[:, 1:2]).total.sum(), alone)
    torch.testing.assert_close(of_three[:, 1:2], of_one, rtol=0, atol=0)


def test_q_weighted_imitation_is_minimal_at_data_policy_times_exp_q_over_beta() -> None:
    """Paper eq. (2): over actions drawn from mu, the minimiser is mu(a) exp(Q(a) / beta), normalised."""
    mu, q, beta = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.1, -0.2, 0.4]), 0.3
    counts = (mu * 1000).round().long()
    actions = torch.repeat_interleave(torch.arange(3), counts)[:, None]
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        rows = logits.expand(len(actions), 1, 3)
        loss = q_weighted_imitation(rows, actions, q[actions], beta=beta, max_weight=100.0).total.sum()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    expected = mu * torch.exp(q / beta)
    torch.testing.assert_close(torch.softmax(logits.detach(), 0), expected / expected.sum(), rtol=1e-3, atol=1e-4)


def test_weights_are_clipped_and_the_share_of_clipped_rows_is_told() -> None:
    logits, actions = torch.zeros(4, 1, 2), torch.zeros(4, 1, dtype=torch.int64)
    advantages = torch.tensor([[0.0], [0.0], [10.0], [10.0]])
    loss = q_weighted_imitation(logits, actions, advantages, beta=1.0, max_weight=20.0)
    assert loss.terms["clipped"].item() == 0.5
    assert loss.terms["weight"].item() == pytest.approx((1 + 1 + 20 + 20) / 4)
    assert loss.total.item() == pytest.approx(np.log(2) * 10.5, rel=1e-6)


def test_double_q_learning_takes_the_online_choice_and_the_target_value() -> None:
    online, target = torch.tensor([[[1.0, 2.0, 9.0]]]), torch.tensor([[[5.0, 7.0, 100.0]]])
    mask = torch.tensor([[[True, True, False]]])
    assert double_q_value(online, target, mask).item() == 7.0


def test_soft_value_by_hand() -> None:
    q, p = torch.tensor([[[1.0, 4.0, 100.0]]]), torch.tensor([[[0.25, 0.75, 0.0]]])
    logits = torch.tensor([[[0.0, np.log(3.0), 7.0]]])
    value, entropy = soft_value(q, logits, 0.5, torch.tensor([[[True, True, False]]]))
    expected = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert entropy.item() == pytest.approx(expected, rel=1e-6)
    assert value.item() == pytest.approx((p * q).sum().item() + 0.5 * expected, rel=1e-6)


def test_the_soft_value_is_largest_at_the_softmax_of_q_over_temperature() -> None:
    """There it is temperature * logsumexp(Q / temperature) and its gradient vanishes."""
    q, temperature = torch.tensor([[[0.3, -1.0, 2.0]]]), 0.7
    logits = (q / temperature).requires_grad_()
    value, _ = soft_value(q, logits, temperature)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.item() == pytest.approx(temperature * torch.logsumexp(q / temperature, -1).item(), rel=1e-6)
    assert gradient.abs().max().item() < 1e-6


def test_discount_counts_time_or_decisions_and_ends_at_termination() -> None:
    duration, ends = torch.tensor([[1.0, 124.0]]), torch.tensor([[False, True]])
    torch.testing.assert_close(interval_discount(0.999, duration, ends), torch.tensor([[0.999, 0.0]]))
    torch.testing.assert_close(interval_discount(0.9, None, ~ends), torch.tensor([[0.0, 0.9]]))


def test_cql_terms_by_hand() -> None:
    q = torch.tensor([[[1.0, 3.0]]])
    loss = cql_dqn(q, torch.tensor([[0]]), torch.tensor([[1.5]]), cql_alpha=2.0)
    td, conservative = 0.5 * 0.5**2, np.log(np.exp(1.0) + np.exp(3.0)) - 1.0
    assert loss.terms["td"].item() == pytest.approx(td)
    assert loss.terms["conservative"].item() == pytest.approx(conservative, rel=1e-6)
    assert loss.total.item() == pytest.approx(td + 2.0 * conservative, rel=1e-6)


def test_cql_ignores_masked_actions() -> None:
    q, mask = torch.tensor([[[1.0, 50.0]]]), torch.tensor([[[True, False]]])
    loss = cql_dqn(q, torch.tensor([[0]]), torch.tensor([[1.0]]), cql_alpha=1.0, action_mask=mask)
    assert loss.total.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("rows", [7, 32, 256, 5000])
@pytest.mark.parametrize("counted", [False, True])
def test_an_agents_mean_is_the_same_to_the_last_bit_beside_others(rows: int, counted: bool) -> None:
    x = torch.randn(rows, 5, generator=torch.Generator().manual_seed(rows))
    acting = x > -1 if counted else None
    together = rows_mean(x, acting)
    for i in range(5):
        assert rows_mean(x[:, i : i + 1], None if acting is None else acting[:, i : i + 1]) == together[i]


def test_rows_mean_is_over_all_leading_axes() -> None:
    x = torch.arange(12.0).reshape(2, 3, 2)
    torch.testing.assert_close(rows_mean(x), torch.tensor([5.0, 6.0]))
