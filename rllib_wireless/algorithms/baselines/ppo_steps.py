"""The steps of all copies between two updates, and the advantages of what was done in them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_wireless.algorithms.stacked import Batch
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.policies import Rollout


def collect(rollout: Rollout, num_steps: int, with_state: bool) -> Batch:
    """Let a policy act, and keep what happened.

    Args:
        rollout: Where it acts, B copies.
        num_steps: Steps T of each copy.
        with_state: Whether to keep the joint state.

    Returns:
        Columns [T, B, N, ...] as of a data set, where `new_obs` is what ended an episode showed last; `state` and `new_state`
        [T, B, S]; `duration`, `terminateds` and `ends`, whether another episode follows, [T, B].
    """
    rows: list[dict[str, Any]] = []
    for _ in range(num_steps):
        before = rollout.step
        row = {name: getattr(before, name).copy() for name in ("obs", "action_mask", "acting")}
        if with_state:
            row["state"] = rollout.env.state().copy()
        step = rollout.advance()
        row |= {"actions": rollout.actions, "rewards": step.reward.copy(), "new_obs": step.obs.copy()}
        row |= {"duration": step.duration.copy(), "terminateds": step.terminated.copy()}
        row["ends"] = step.terminated | step.truncated
        if with_state:
            row["new_state"] = rollout.env.state().copy()
        if step.final is not None:
            row["new_obs"][step.final.copies] = step.final.obs
            if with_state:
                row["new_state"][step.final.copies] = step.final.state
        rows.append(row)
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}


def advantages(
    rewards: Tensor, discounts: Tensor, values: Tensor, new_values: Tensor, ends: Tensor, lambda_: float
) -> Tensor:
    """Generalized advantage estimates, [T, B, K].

    Source: Schulman et al., "High-dimensional continuous control using generalized advantage estimation", ICLR 2016.

    Args:
        rewards: [T, B, K].
        discounts: Of the value that follows, [T, B, 1]; 0 where the game terminated.
        values: V(o), [T, B, K].
        new_values: V(o'), [T, B, K]; that of the episode's last observation where it ended.
        ends: Whether another episode follows, [T, B, 1].
        lambda_: How far to trust rewards rather than values.
    """
    errors = rewards + discounts * new_values - values
    carried = lambda_ * discounts * ~ends
    found = torch.empty_like(errors)
    ahead = torch.zeros_like(errors[0])
    for t in reversed(range(len(errors))):
        ahead = found[t] = errors[t] + carried[t] * ahead
    return found


class OnPolicyRows(TensorIterator):
    """The rows of one update, drawn without replacement: pass after pass in new orders.

    Args:
        seed: Seed of the orders.
        last_minibatch_only: Whether to leave out all minibatches of a pass but the last.
    """

    def __init__(self, seed: int, last_minibatch_only: bool = False) -> None:
        super().__init__([], seed=seed)
        self._last_only = last_minibatch_only

    def replace(self, rows: Batch) -> None:
        """Forget the rows, and take others."""
        self._tensors = rows

    def iter_torch_batches(
        self, *, batch_size: int, device: torch.device | str | None = None, **_: Any
    ) -> Iterator[Batch]:
        rows = self._load(device)
        while True:
            order = torch.from_numpy(self._random.permutation(len(self))).to(device or "cpu")
            minibatches = torch.split(order, batch_size)
            for index in minibatches[-1:] if self._last_only else minibatches:
                yield {f"{self.module_id}/{name}": values.index_select(0, index) for name, values in rows.items()}
