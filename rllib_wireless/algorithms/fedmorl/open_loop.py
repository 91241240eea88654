"""The model's error after several decisions, where each goes on from its own prediction of the one before."""

import torch
from torch import Tensor

from rllib_wireless.algorithms.fedmorl.layout import Rows
from rllib_wireless.algorithms.fedmorl.rollout import draw_step, outcomes_of
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel
from rllib_wireless.algorithms.losses import interval_discount

_STARTS = 64  # windows of rows that are compared at most, evenly spread
_PATHS = 8  # drawn from each start; their mean is what the model predicts


@torch.no_grad()
def open_loop_errors(
    model: WorldModel, rows: Rows, linked: Tensor, *, horizon: int, gamma: float, generator: torch.Generator
) -> dict[str, float]:
    """Follow logged actions in the model for k = `horizon` decisions from logged observations.

    The prediction is the mean over paths drawn from the model. Root mean squares over the starts:

    k_step_continuous: error of the continuous fields after k decisions, in units of their deviation over the data;
    k_step_continuous_unchanged: that of predicting that nothing changes.
    k_step_reward: error of the sum of the k rewards; k_step_reward_mean: that of predicting the mean of the logged sums.
    k_step_return: the same of the discounted sum; k_step_return_mean: likewise.

    Args:
        model: The global model.
        rows: Logged rows [T, ...] in the order of time.
        linked: Whether the row after each row is its next decision, [T] bool.
        horizon: k; less where no k rows are linked.
        gamma: Discount per unit of duration.
        generator: Source of the paths.
    """
    starts, k = _starts(linked, horizon)
    window = starts[:, None] + torch.arange(k)
    discount = interval_discount(gamma, rows.duration[window], rows.terminateds[window])
    logged = _sums(rows.rewards[window], discount)
    drawn_rewards, drawn_discounts = [], []
    obs, going = rows.obs[starts].repeat_interleave(_PATHS, 0), torch.ones(len(starts) * _PATHS, dtype=torch.bool)
    mean = obs
    for actions in rows.actions[window].T.repeat_interleave(_PATHS, 1):
        taken = outcomes_of(model, obs, actions)
        drawn = draw_step(taken, obs, actions, model, generator)
        drawn_rewards.append(drawn.rewards * going)
        drawn_discounts.append(interval_discount(gamma, drawn.duration, drawn.terminateds))
        # The last step of a path is not drawn: its expectation is known.
        mean = torch.where(going[:, None], (taken.prob.unsqueeze(-1) * taken.obs).sum(1), mean)
        obs = torch.where(going[:, None], drawn.new_obs, obs)
        going = going & ~drawn.terminateds
    predicted = _sums(torch.stack(drawn_rewards, 1), torch.stack(drawn_discounts, 1)).reshape(2, -1, _PATHS).mean(2)
    columns = list(model.layout.continuous)
    before, after, last = (
        model.normalised(x)[..., columns] for x in (rows.obs[starts], rows.new_obs[window[:, -1]], mean)
    )
    expected = last.reshape(len(starts), _PATHS, -1).mean(1)
    errors = {
        "continuous": expected - after,
        "continuous_unchanged": before - after,
        "reward": predicted[0] - logged[0],
        "reward_mean": logged[0].mean() - logged[0],
        "return": predicted[1] - logged[1],
        "return_mean": logged[1].mean() - logged[1],
    }
    return {f"k_step_{name}": float(error.square().mean().sqrt()) for name, error in errors.items()}


def _starts(linked: Tensor, horizon: int) -> tuple[Tensor, int]:
    """Rows from which `horizon` linked rows follow, or as many as there are."""
    starts, k = torch.arange(len(linked)), 1
    while k < horizon:
        longer = starts[starts + k < len(linked)]
        longer = longer[linked[longer + k - 1]]
        if not len(longer):
            break
        starts, k = longer, k + 1
    spread = torch.linspace(0, len(starts) - 1, min(len(starts), _STARTS)).round().long()
    return starts[spread], k


def _sums(rewards: Tensor, discounts: Tensor) -> Tensor:
    """Sum and discounted sum [2, M] of rewards [M, k], each discounted by the intervals before it."""
    before = torch.cat([torch.ones_like(discounts[:, :1]), discounts[:, :-1].cumprod(1)], dim=1)
    return torch.stack([rewards.sum(1), (rewards * before).sum(1)])
