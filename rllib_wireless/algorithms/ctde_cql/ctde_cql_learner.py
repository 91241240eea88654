"""The losses of CTDE-CQL, and the step of its target networks."""

from typing import Any

import torch
from ray.rllib.core import Columns
from torch import Tensor
from typing_extensions import override

from rllib_wireless.algorithms.ctde_cql.ctde_cql_module import NEW_LOGITS, NEW_Q, NEW_Q_TARGET, Q
from rllib_wireless.algorithms.ctde_cql.scaling import discounts
from rllib_wireless.algorithms.losses import (
    Loss,
    chosen,
    conservative_gap,
    double_q_value,
    rows_mean,
    soft_value,
)
from rllib_wireless.algorithms.stacked import Batch, StackedLearner
from rllib_wireless.policies.joint import joint_action, joint_mask


def as_one_agent(batch: Batch, num_actions: int) -> Batch:
    """The joint game as that of one agent, which sees all observations and chooses the joint action.

    Args:
        batch: Columns [B, N, ...].
        num_actions: A of one agent.

    Returns:
        Columns [B, 1, ...] with A ** N actions; the reward is the mean over agents.
    """
    joint = {name: column[:, :1] for name, column in batch.items() if name in ("terminateds", "duration")}
    for name in ("obs", "new_obs"):
        joint[name] = batch[name].flatten(1).unsqueeze(1)
    for name in ("action_mask", "new_action_mask"):
        joint[name] = joint_mask(batch[name]).unsqueeze(1)
    joint["actions"] = joint_action(batch["actions"], num_actions).unsqueeze(1)
    joint["rewards"] = batch["rewards"].mean(dim=1, keepdim=True)
    if "acting" in batch:
        joint["acting"] = batch["acting"].any(dim=1, keepdim=True)
    return joint


class CTDECQLLearner(StackedLearner):
    """Learner of CTDE-CQL: one backward pass for critics, mixer, policies and temperature."""

    @override
    def arrange(self, batch: Batch) -> Batch:
        if self.config.paradigm == "centralized":
            return as_one_agent(batch, self.agents_module.action_space.n)
        return batch

    @override
    def loss(self, batch: Batch, outputs: Batch) -> Loss:
        acting = batch.get("acting")
        # Those of all agents and critics are added up: no parameter but the mixer's is in more than one of them.
        critic, q_terms = self._critic_loss(batch, outputs, acting)
        if self.agents_module.actor is None:
            return Loss(critic, q_terms)
        actor, policy_terms = self._actor_loss(batch, outputs, acting)
        return Loss(critic + actor, q_terms | policy_terms)

    @override
    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        super().apply_gradients(gradients_dict)
        self.agents_module.update_targets(self.config.tau)

    def _critic_loss(self, batch: Batch, outputs: Batch, acting: Tensor | None) -> tuple[Tensor, Batch]:
        """Half the squared TD error of the mixed values, plus cql_alpha times the conservative term of each agent."""
        module, q = self.agents_module, outputs[Q]
        q_logged = chosen(q, batch["actions"].unsqueeze(1).expand(q.shape[:-1]))
        values = module.mixer(q_logged, batch.get("state"))
        error = values - self._target(batch, outputs).unsqueeze(1)
        td = rows_mean(0.5 * error.square())
        gap = conservative_gap(q, q_logged, batch["action_mask"].unsqueeze(1)).mean(dim=1)
        conservative = rows_mean(gap, acting)
        weighted = self.config.cql_alpha * self.balanced(conservative, acting)
        # Means over critics, each of which has a loss of its own.
        total = module.num_critics * (td.sum() + weighted.sum())
        terms = {
            "td": td,
            "conservative": conservative,
            "value": module.scaling.in_rewards(rows_mean(values.mean(dim=1))),
        }
        return total, {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def _target(self, batch: Batch, outputs: Batch) -> Tensor:
        """TD targets of the mixed values, [B, M]."""
        scaling, rewards = self.agents_module.scaling, batch["rewards"]
        discount = discounts(batch, scaling.gamma, self.config)
        if self.config.paradigm == "ctde":  # the team's value
            rewards, discount = rewards.mean(dim=1, keepdim=True), discount[:, :1]
        values = self._new_values(batch, outputs) if NEW_Q_TARGET in outputs else torch.zeros_like(rewards)
        target: Tensor = scaling.target(rewards, discount, values)
        return target

    def _new_values(self, batch: Batch, outputs: Batch) -> Tensor:
        """Mixed values of what follows, [B, M]."""
        module, mask = self.agents_module, batch["new_action_mask"]
        new_q = outputs[NEW_Q_TARGET].amin(dim=1)
        if module.actor is None:
            values = double_q_value(outputs[NEW_Q].amin(dim=1), new_q, mask)
        else:
            values, _ = soft_value(new_q, outputs[NEW_LOGITS], module.temperature, mask)
        repeated = values.unsqueeze(1).expand(-1, module.num_critics, -1)
        mixed: Tensor = module.target_mixer(repeated, batch.get("new_state")).amin(dim=1)
        return mixed

    def _actor_loss(self, batch: Batch, outputs: Batch, acting: Tensor | None) -> tuple[Tensor, Batch]:
        """Minus the soft value of each agent's policy, and what moves the temperature."""
        module, mask = self.agents_module, batch["action_mask"]
        q = outputs[Q].detach().amin(dim=1)
        temperature = module.temperature
        value, entropy = soft_value(q, outputs[Columns.ACTION_DIST_INPUTS], temperature, mask)
        policy = rows_mean(-value, acting)
        total = self.balanced(policy, acting).sum()
        if self.config.temperature == "auto":
            wanted = self.config.target_entropy * mask.sum(dim=-1).log()
            excess = rows_mean(entropy.detach() - wanted, acting)
            total = total + (module.log_temperature[:, 0] * self.balanced(excess, acting)).sum()
        terms = {"policy": policy, "entropy": rows_mean(entropy, acting), "temperature": temperature}
        return total, {name: term.detach() for name, term in terms.items()}
