"""Agents as one stacked network, and the Learner that takes its gradient steps on data in memory."""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.core import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.torch import TorchRLModule
from typing_extensions import override

from rllib_wireless.algorithms.env_runner import MODULE_ID
from rllib_wireless.algorithms.losses import Loss
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.errors import UserError
from rllib_wireless.policies import StackedMLP

Batch = dict[str, torch.Tensor]
"""Columns of the data set, [B, N, ...] each."""


class StackedModule(TorchRLModule):  # type: ignore[misc]
    """One RLModule for all agents: N multilayer perceptrons side by side.

    `model_config` holds `num_agents` and `sizes`, the widths of all layers.
    """

    @override
    def setup(self) -> None:
        self.network = StackedMLP(self.model_config["num_agents"], self.model_config["sizes"])

    @override
    def _forward(self, batch: Batch, **kwargs: Any) -> Batch:
        return {Columns.ACTION_DIST_INPUTS: self.network(batch[Columns.OBS])}


class StackedLearner(TorchLearner):  # type: ignore[misc]
    """Takes gradient steps on batches that it samples itself; a subclass gives the loss.

    RLlib's own loop builds batch objects and checks and clips tensor by tensor, which costs small networks as much time as
    their mathematics.
    """

    def arrange(self, batch: Batch) -> Batch:
        """What the module and the loss are given of a batch; by default all of it as it is."""
        return batch

    @abstractmethod
    def loss(self, batch: Batch, outputs: Batch) -> Loss:
        """The loss of a batch.

        Args:
            batch: Columns [B, N, ...].
            outputs: What the module made of it.
        """

    @override
    def build(self) -> None:
        super().build()
        self._iterator: TensorIterator | None = None
        self._sums: Batch = {}
        # Trained parameters [N, ...] by the stack of networks that they belong to; a lone parameter belongs to none.
        self._stacks: dict[str, list[torch.Tensor]] = {}
        for name, parameter in self.agents_module.named_parameters():
            if parameter.requires_grad and "." in name:
                self._stacks.setdefault(name.partition(".")[0], []).append(parameter)

    @property
    def agents_module(self) -> Any:
        """The module itself, not what several Learners wrap it in."""
        return self._module[MODULE_ID].unwrapped()

    @override
    def get_parameters(self, module: Any) -> list[torch.Tensor]:
        # Those of target networks are not trained.
        return [p for p in module.parameters() if p.requires_grad]

    @override
    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        params = self.get_parameters(self._module[module_id])
        optimizer = torch.optim.Adam(params, lr=config.lr, fused=True)
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params, lr_or_lr_schedule=config.lr)

    @override
    def update(
        self,
        *,
        training_data: TrainingData,
        num_iters: int,
        minibatch_size: int,
        timesteps: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Take `num_iters` gradient steps.

        Args:
            training_data: Holds one data iterator; that of the first call is kept, with the data it has loaded.
            num_iters: Number of steps.
            minibatch_size: Rows of each agent in a step.
            timesteps: As RLlib's, for schedules.
            **kwargs: As RLlib's.

        Returns:
            The loss terms, averaged over the steps and over the agents.

        Raises:
            UserError: Where a gradient is no longer finite.
        """
        self.before_gradient_based_update(timesteps=timesteps or {})
        self._weights_seq_no += 1
        batches = self._draw(training_data.data_iterators[0], minibatch_size)
        self._sums = {}
        for _ in range(num_iters):
            batch = {name.removeprefix(f"{MODULE_ID}/"): column for name, column in next(batches).items()}
            self._update({MODULE_ID: self.arrange(batch)})
        self._log_terms(num_iters)
        self.after_gradient_based_update(timesteps=timesteps or {})
        return self.metrics.reduce()

    @override
    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Batch, fwd_out: Batch) -> torch.Tensor:
        loss = self.loss(batch, fwd_out)
        self._add({"loss": loss.total.detach(), **loss.terms})
        total: torch.Tensor = loss.total.sum()
        return total

    @override
    def postprocess_gradients(self, gradients_dict: dict[Any, torch.Tensor]) -> dict[Any, torch.Tensor]:
        """Clip the gradient of each network in a stack by its own norm, as if it trained alone."""
        for name, params in self._stacks.items():
            gradients = [gradients_dict[p] for p in params]
            norm = agent_norms(gradients)
            self._add({f"{name}_gradient_norm".removeprefix("network_"): norm})
            if self.config.grad_clip is not None:
                scale = (self.config.grad_clip / (norm + 1e-6)).clamp(max=1.0)
                for gradient in gradients:
                    gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))
        return gradients_dict

    @override
    def apply_gradients(self, gradients_dict: dict[Any, torch.Tensor]) -> None:
        for optimizer in self._named_optimizers.values():
            optimizer.step()

    @override
    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        # RLlib gives views of its tensors, which the next step would change.
        return copy.deepcopy(super().get_state(components, not_components=not_components, **kwargs))

    @override
    def set_state(self, state: dict[str, Any]) -> None:
        # RLlib keeps its weights where the given ones are not newer, and takes the optimizer's arrays over as they are.
        self._weights_seq_no = 0
        super().set_state(copy.deepcopy(state))

    @override
    def _log_trainable_parameters(self) -> None:
        # RLlib logs them once, after which they are NaN in every result.
        pass

    def balanced(self, loss: torch.Tensor, acting: torch.Tensor | None) -> torch.Tensor:
        """Weigh losses [N] over acting rows so that the mean over Learners is the mean over all their rows."""
        if acting is None or not self.distributed:
            return loss
        here = acting.reshape(-1, len(loss)).sum(dim=0).float()
        mean = here.clone()
        torch.distributed.all_reduce(mean)
        return loss * here / (mean / torch.distributed.get_world_size()).clamp(min=1.0)

    def _draw(self, iterator: TensorIterator, batch_size: int) -> Iterator[Mapping[str, torch.Tensor]]:
        """Batches of this update, a pure function of (seed, shard, number of the update): nothing to save or restore."""
        if self._iterator is None:
            self._iterator = iterator
        random = np.random.default_rng([iterator.seed, iterator.shard, self._weights_seq_no])
        self._iterator.set_state({"random": random.bit_generator.state})
        return self._iterator.iter_torch_batches(batch_size=batch_size, device=self.device)

    def _add(self, terms: Batch) -> None:
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + term if name in self._sums else term

    def _log_terms(self, num_iters: int) -> None:
        """Log the means over agents and steps."""
        if not all(bool(torch.isfinite(total).all()) for total in self._sums.values()):
            raise UserError(
                f"training has diverged at lr = {self.config.lr}: a loss or a gradient is not finite any more"
            )
        for name, total in self._sums.items():
            self.metrics.log_value((MODULE_ID, name), (total.mean() / num_iters).item(), window=1)


def agent_norms(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Norm of each agent's gradient, given stacked tensors [N, ...] of all layers, [N]."""
    per_layer = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(per_layer), dim=0)
    return norm
