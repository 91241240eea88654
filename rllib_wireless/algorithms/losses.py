"""Each loss once, as a pure function of tensors that returns named terms.

Tensors hold rows of N agents side by side: `[..., N]` or, with one value per action, `[..., N, A]`. A loss is averaged over
an agent's own rows and never over agents, so an agent's gradient is the one it would have alone, whoever shares the stack:
call `loss.total.sum().backward()`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Stands for minus infinity where a masked logit or Q-value must not win, yet keeps 0 * masked finite in gradients.
_MASKED = -1e9


@dataclass(frozen=True)
class Loss:
    """A loss and what it is made of.

    Attributes:
        total: What each agent minimises, [N]; a single number where agents minimise it together.
        terms: Its named parts and statistics, without gradient; what is logged is the mean of each.
    """

    total: Tensor
    terms: dict[str, Tensor]


def imitation(logits: Tensor, actions: Tensor, action_mask: Tensor | None = None, acting: Tensor | None = None) -> Loss:
    """Behaviour cloning: the cross-entropy -E[log pi(a|o)] of logged actions.

    Args:
        logits: [..., N, A].
        actions: Logged actions [..., N].
        action_mask: Legal actions [..., N, A]; all if None.
        acting: Rows that count [..., N]; all if None.
    """
    log_prob = _log_policy(logits, action_mask)
    cross_entropy = rows_mean(-chosen(log_prob, actions), acting)
    return Loss(cross_entropy, _named(cross_entropy=cross_entropy, entropy=_entropy(log_prob, acting)))


def q_weighted_imitation(
    logits: Tensor,
    actions: Tensor,
    advantages: Tensor,
    *,
    beta: float,
    max_weight: float,
    action_mask: Tensor | None = None,
    acting: Tensor | None = None,
) -> Loss:
    """FedMORL's policy loss E[-log pi(a|o) exp(Q(o, a) / beta)] (paper, eq. 2).

    Args:
        logits: [..., N, A].
        actions: Logged actions [..., N].
        advantages: Q of the logged actions [..., N], less any function of the observation: that moves no optimum, only the
            share of the loss that each observation has.
        beta: Temperature, in units of reward; the smaller, the greedier.
        max_weight: Weights exp(Q / beta) are clipped here.
        action_mask: Legal actions [..., N, A]; all if None.
        acting: Rows that count [..., N]; all if None.
    """
    weight = imitation_weight(advantages, beta=beta, max_weight=max_weight)
    log_prob = _log_policy(logits, action_mask)
    surprise = -chosen(log_prob, actions)
    total = rows_mean(weight * surprise, acting)
    terms = _named(
        weighted_cross_entropy=total,
        cross_entropy=rows_mean(surprise, acting),
        weight=rows_mean(weight, acting),
        clipped=rows_mean((weight >= max_weight).float(), acting),
        entropy=_entropy(log_prob, acting),
    )
    return Loss(total, terms)


def imitation_weight(advantages: Tensor, *, beta: float, max_weight: float) -> Tensor:
    """The weight exp(Q / beta) of a logged row, clipped at `max_weight`, shaped like `advantages`."""
    return torch.exp(advantages / beta).clamp(max=max_weight)


def cql_dqn(
    q: Tensor,
    actions: Tensor,
    targets: Tensor,
    *,
    cql_alpha: float,
    action_mask: Tensor | None = None,
    acting: Tensor | None = None,
) -> Loss:
    """Discrete conservative Q-learning: half the squared TD error + cql_alpha * E[logsumexp_a Q(o, a) - Q(o, a_logged)].

    Source: Kumar et al., "Conservative Q-Learning for Offline RL", NeurIPS 2020, eq. 4 (H regulariser). `cql_alpha = 0` is DQN.

    Args:
        q: Q-values with gradient [..., N, A].
        actions: Logged actions [..., N].
        targets: TD targets without gradient [..., N].
        cql_alpha: Weight of the conservative term.
        action_mask: Legal actions [..., N, A]; all if None.
        acting: Rows that count [..., N]; all if None.
    """
    q_logged = chosen(q, actions)
    td = rows_mean(0.5 * functional.mse_loss(q_logged, targets, reduction="none"), acting)
    conservative = rows_mean(conservative_gap(q, q_logged, action_mask), acting)
    total = td + cql_alpha * conservative
    return Loss(total, _named(td=td, conservative=conservative, q=rows_mean(q_logged, acting)))


def log_prob_and_entropy(logits: Tensor, actions: Tensor, action_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """log pi(a|o) of given actions and the entropy of pi(.|o) over legal ones, [..., N] each.

    Args:
        logits: [..., N, A].
        actions: [..., N].
        action_mask: Legal actions [..., N, A]; all if None.
    """
    log_prob = _log_policy(logits, action_mask)
    return chosen(log_prob, actions), _row_entropy(log_prob)


def clipped_surrogate(
    log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, *, clip: float | None, acting: Tensor | None = None
) -> Loss:
    """PPO's policy loss -E[min(rho A, clip(rho, 1 - clip, 1 + clip) A)] with rho = pi(a|o) / pi_old(a|o).

    Source: Schulman et al., "Proximal Policy Optimization Algorithms", 2017, eq. 7. Without a clip its gradient at pi = pi_old is
    that of the policy gradient, -E[A grad log pi].

    Args:
        log_prob: Of what was done, with gradient [..., N].
        old_log_prob: The same when it was done [..., N].
        advantages: [..., N].
        clip: How far rho may leave 1; not clipped if None.
        acting: Rows that count [..., N]; all if None.
    """
    ratio = torch.exp(log_prob - old_log_prob)
    gain, outside = ratio * advantages, torch.zeros_like(ratio)
    if clip is not None:
        gain = torch.minimum(gain, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)
        outside = ((ratio - 1.0).abs() > clip).float()
    total = rows_mean(-gain, acting)
    divergence = rows_mean(ratio - 1.0 - (log_prob - old_log_prob), acting)
    return Loss(total, _named(policy=total, clipped=rows_mean(outside, acting), kl=divergence))


def conservative_gap(q: Tensor, q_logged: Tensor, action_mask: Tensor | None = None) -> Tensor:
    """The conservative term of each row, logsumexp_a Q(o, a) - Q(o, a_logged) over legal actions, [..., N]; never negative.

    Args:
        q: Q-values [..., N, A].
        q_logged: Those of the logged actions [..., N].
        action_mask: Legal actions [..., N, A]; all if None.
    """
    return torch.logsumexp(_masked(q, action_mask), dim=-1) - q_logged


def double_q_value(new_q_online: Tensor, new_q_target: Tensor, new_action_mask: Tensor | None = None) -> Tensor:
    """The value Q_target(o', argmax_a' Q_online(o', a')) of double Q-learning over legal actions a', [..., N].

    Source: van Hasselt et al., "Deep RL with Double Q-learning", AAAI 2016.

    Args:
        new_q_online: The learned network at the next decision [..., N, A].
        new_q_target: The target network there [..., N, A].
        new_action_mask: Actions legal there [..., N, A]; all if None.
    """
    return chosen(new_q_target, _masked(new_q_online, new_action_mask).argmax(dim=-1))


def soft_value(
    q: Tensor, logits: Tensor, temperature: Tensor | float, action_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The soft value sum_a pi(a|o) [Q(o, a) - temperature * log pi(a|o)] over legal actions, and the entropy of pi, [..., N].

    Source: Christodoulou, "Soft Actor-Critic for Discrete Action Settings", 2019, eqs. 10 and 12: what a next observation is
    worth, and what the policy maximises.

    Args:
        q: Q-values [..., N, A].
        logits: Of the policy [..., N, A].
        temperature: Weight of the entropy, a number or [N].
        action_mask: Legal actions [..., N, A]; all if None.
    """
    log_prob = _log_policy(logits, action_mask)
    entropy = _row_entropy(log_prob)
    return (log_prob.exp() * q).sum(dim=-1) + temperature * entropy, entropy


def interval_discount(gamma: float, duration: Tensor | None, terminateds: Tensor) -> Tensor:
    """gamma ** duration, or gamma per decision where `duration` is None; 0 at rows that terminate."""
    discount = gamma if duration is None else gamma**duration
    return discount * (~terminateds).float()


def rows_mean(x: Tensor, acting: Tensor | None = None) -> Tensor:
    """Mean over an agent's rows that count, [..., N] -> [N]; 0 where none does."""
    # An agent's rows lie side by side in memory, so that their sum is the same to the last bit for any number of agents.
    x = x.reshape(-1, x.shape[-1]).T.contiguous()
    if acting is None:
        return x.mean(dim=1)
    weight = acting.reshape(-1, len(x)).T.to(x.dtype).contiguous()
    return (x * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def chosen(values: Tensor, actions: Tensor) -> Tensor:
    """The values [..., N] of the actions, given those of all [..., N, A]."""
    return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values.masked_fill(~mask, _MASKED)


def _log_policy(logits: Tensor, mask: Tensor | None) -> Tensor:
    """log pi(.|o), [..., N, A]."""
    return torch.log_softmax(_masked(logits, mask), dim=-1)


def _entropy(log_prob: Tensor, acting: Tensor | None) -> Tensor:
    with torch.no_grad():
        return rows_mean(_row_entropy(log_prob), acting)


def _row_entropy(log_prob: Tensor) -> Tensor:
    return -(log_prob.exp() * log_prob).sum(dim=-1)


def _named(**terms: Tensor) -> dict[str, Tensor]:
    return {name: term.detach() for name, term in terms.items()}
