"""Algorithms that train one agent-stacked network by gradient steps on data in memory."""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from ray.rllib.core import COMPONENT_LEARNER_GROUP, Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.utils.metrics import LEARNER_RESULTS
from typing_extensions import override

from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig
from rllib_wireless.algorithms.env_runner import MODULE_ID
from rllib_wireless.algorithms.losses import Loss
from rllib_wireless.configuration import CONFIG, Configuration, Widths, field
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.data.store import load_dataset
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.errors import UserError
from rllib_wireless.policies import StackedMLP

Batch = dict[str, torch.Tensor]
"""Columns of the data set, [B, N, ...] each."""


@dataclass(frozen=True, config=CONFIG)
class GradientSettings(Configuration):
    """Hyper-parameters of every algorithm that takes gradient steps; names are RLlib's."""

    owner: ClassVar[str] = "gradient"

    lr: float = field(1e-3, "Step size of Adam.", gt=0.0, le=1.0)
    grad_clip: float | None = field(None, "Largest norm of an agent's gradient; not clipped if not given.", gt=0.0)
    train_batch_size_per_learner: int = field(256, "Rows of each agent in a gradient step.", unit="rows", ge=1)
    dataset_num_iters_per_learner: int = field(500, "Gradient steps of an iteration.", unit="steps", ge=1)
    fcnet_hiddens: Widths = field((64, 64), "Widths of an agent's hidden layers.")


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
            self._update({MODULE_ID: batch})
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
        """Clip each agent's gradient by its own norm, as if it trained alone."""
        gradients = list(gradients_dict.values())
        norm = agent_norms(gradients)
        self._add({"gradient_norm": norm})
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


class GradientConfig(OfflineMultiAgentConfig):
    """Configuration of a `GradientAlgorithm`; a subclass names its learner.

    Attributes:
        columns: Columns that the loss reads; those that were not recorded are left out.
    """

    settings: ClassVar[type[Configuration]] = GradientSettings
    columns: ClassVar[tuple[str, ...]]


class GradientAlgorithm(OfflineMultiAgentAlgorithm):
    """Trains a `StackedModule` with the learner that the configuration names."""

    config: GradientConfig

    @override
    def prepare(self, env: BatchedEnv) -> None:
        config = self.config
        dataset = load_dataset(Path(config.input_), environment=env)
        config.requirements.check_data(dataset)
        assert env.observation_space.shape is not None
        sizes = (env.observation_space.shape[0], *config.fcnet_hiddens, int(env.action_space.n))
        spec = RLModuleSpec(
            module_class=StackedModule,
            observation_space=env.observation_space,
            action_space=env.action_space,
            model_config={"num_agents": len(env.agents), "sizes": sizes},
        )
        self.agents, self.sizes = env.agents, sizes
        self.learner_group = config.build_learner_group(
            rl_module_spec=MultiRLModuleSpec(rl_module_specs={MODULE_ID: spec})
        )
        shards = max(config.num_learners, 1)
        columns = [name for name in config.columns if name in dataset.card.columns]
        self._iterators = [
            TensorIterator([dataset.path], columns=columns, shard=i, num_shards=shards, seed=config.seed)
            for i in range(shards)
        ]

    @override
    def training_step(self) -> None:
        results = self.learner_group.update(
            training_data=TrainingData(data_iterators=self._iterators),
            minibatch_size=self.config.train_batch_size_per_learner,
            num_iters=self.config.dataset_num_iters_per_learner,
            timesteps={},
        )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    def network(self) -> StackedMLP:
        """A copy of the agents' networks."""
        network = StackedMLP(len(self.agents), self.sizes)
        weights = self.learner_group.get_weights([MODULE_ID])[MODULE_ID]
        prefix = "network."
        network.load_state_dict(
            {
                name.removeprefix(prefix): torch.from_numpy(np.array(w))
                for name, w in weights.items()
                if name.startswith(prefix)
            }
        )
        return network

    @override
    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(COMPONENT_LEARNER_GROUP, components, not_components):
            state[COMPONENT_LEARNER_GROUP] = self.learner_group.get_state(
                self._get_subcomponents(COMPONENT_LEARNER_GROUP, components),
                not_components=self._get_subcomponents(COMPONENT_LEARNER_GROUP, not_components),
                **kwargs,
            )
        return state

    @override
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if COMPONENT_LEARNER_GROUP in state:
            self.learner_group.set_state(state[COMPONENT_LEARNER_GROUP])

    @override
    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        return [(COMPONENT_LEARNER_GROUP, self.learner_group)]
