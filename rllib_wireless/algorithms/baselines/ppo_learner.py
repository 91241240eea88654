"""The loss of PPO, and what it is taken on: advantages and old probabilities, computed once per update."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core import Columns
from ray.rllib.core.learner.training_data import TrainingData
from torch import Tensor
from typing_extensions import override

from rllib_wireless.algorithms.baselines.ppo_module import VALUES
from rllib_wireless.algorithms.baselines.ppo_steps import OnPolicyRows, advantages
from rllib_wireless.algorithms.env_runner import MODULE_ID
from rllib_wireless.algorithms.losses import (
    Loss,
    clipped_surrogate,
    interval_discount,
    log_prob_and_entropy,
    rows_mean,
)
from rllib_wireless.algorithms.stacked import Batch, StackedLearner


class PPOLearner(StackedLearner):
    """Learner of PPO: one backward pass for policies and critics, which share no parameters."""

    @override
    def update(self, *, training_data: TrainingData, **kwargs: Any) -> Any:
        """Take the gradient steps of one update, on steps as `collect` gives them."""
        rows: OnPolicyRows = training_data.data_iterators[0]
        steps = rows.rows()
        self.metrics.log_value((MODULE_ID, "reward"), steps["rewards"].mean().item(), window=1)
        rows.replace(self.judged(steps))
        return super().update(training_data=training_data, **kwargs)

    @override
    def before_gradient_based_update(self, *, timesteps: Mapping[str, Any]) -> None:
        config = self.config
        share = self._weights_seq_no / (config.num_iterations * config.parsed().updates_per_iteration)
        lr = config.lr * max(1.0 - share, 0.0) if config.anneal_lr else config.lr
        for optimizer in self._named_optimizers.values():
            self._set_optimizer_lr(optimizer, lr)
        self.metrics.log_value((MODULE_ID, "lr"), lr, window=1)

    @override
    def after_gradient_based_update(self, *, timesteps: Mapping[str, Any]) -> None:
        # RLlib's schedule, which knows nothing of iterations, would set and log the first step size here.
        pass

    @override
    def loss(self, batch: Batch, outputs: Batch) -> Loss:
        log_prob, entropy = self._of_actions(outputs[Columns.ACTION_DIST_INPUTS], batch)
        acting = batch["acting"].any(dim=-1, keepdim=True) if self.agents_module.centralized else batch["acting"]
        advantage = batch["advantages"].expand_as(log_prob)
        policy = clipped_surrogate(log_prob, batch["old_log_prob"], advantage, clip=self._clip, acting=acting)
        disorder = rows_mean(entropy, acting)
        error = rows_mean(0.5 * (outputs[VALUES] - batch["targets"]).square())
        total = (policy.total - self.config.entropy_coeff * disorder).sum() + error.sum()
        return Loss(total, policy.terms | {"entropy": disorder.detach(), "critic": error.detach()})

    @torch.no_grad()
    def judged(self, steps: Batch) -> Batch:
        """Rows [T * B, ...] of steps [T, B, ...], with `advantages` and `targets` [T * B, K] and `old_log_prob`."""
        module, config = self.agents_module, self.config
        column = "obs" if module.inputs is None else "state"
        if module.inputs is not None:
            module.inputs.see(steps[column])
        values, new_values = module.values(steps[column]), module.values(steps[f"new_{column}"])
        rewards = steps["rewards"].mean(-1, keepdim=True) if config.reward == "common" else steps["rewards"]
        duration = steps["duration"] if config.discount == "time" else None
        discounts = interval_discount(module.model_config["gamma"], duration, steps["terminateds"]).unsqueeze(-1)
        ends = steps["ends"].unsqueeze(-1)
        found = advantages(rewards.expand_as(values), discounts, values, new_values, ends, config.lambda_)
        returns = values + found
        module.see_returns(returns)
        log_prob, _ = self._of_actions(module.logits(steps["obs"]), steps)
        rows = {name: steps[name] for name in ("obs", "action_mask", "acting", "actions", column)}
        rows |= {"advantages": self._standardised(found, steps["acting"]), "old_log_prob": log_prob}
        rows["targets"] = module.returns.standardise(returns)
        return {name: values.flatten(0, 1) for name, values in rows.items()}

    @property
    def _clip(self) -> float | None:
        clip: float | None = self.config.clip_param
        if clip is None or not self.config.clip_by_agents:
            return clip
        return clip / int(self.agents_module.model_config["num_agents"])

    def _of_actions(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of what each agent did, [..., N]; of what all did, [..., 1], where one acts for all."""
        found = log_prob_and_entropy(logits, batch["actions"], batch["action_mask"])
        if not self.agents_module.centralized:
            return found
        return found[0].sum(dim=-1, keepdim=True), found[1].sum(dim=-1, keepdim=True)

    def _standardised(self, found: Tensor, acting: Tensor) -> Tensor:
        """Advantages [T, B, K] with mean 0 and standard deviation 1 over the rows in which something was decided."""
        decided = acting if found.shape[-1] == acting.shape[-1] else acting.any(dim=-1, keepdim=True)
        mean = rows_mean(found, decided)
        std = rows_mean((found - mean).square(), decided).sqrt()
        return (found - mean) / (std + 1e-8)
