"""Algorithms that train one agent-stacked network by gradient steps on data in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from ray.exceptions import RayError
from ray.rllib.core import COMPONENT_LEARNER_GROUP
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import LEARNER_RESULTS
from typing_extensions import override

from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig
from rllib_wireless.algorithms.env_runner import MODULE_ID
from rllib_wireless.algorithms.stacked import StackedModule
from rllib_wireless.configuration import CONFIG, Configuration, Widths, field
from rllib_wireless.data.sampling import TensorIterator
from rllib_wireless.data.store import load_dataset
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.errors import ProcessLost
from rllib_wireless.policies import StackedMLP


@dataclass(frozen=True, config=CONFIG)
class GradientSettings(Configuration):
    """Hyper-parameters of every algorithm that takes gradient steps; names are RLlib's."""

    owner: ClassVar[str] = "gradient"

    lr: float = field(1e-3, "Step size of Adam.", gt=0.0, le=1.0)
    grad_clip: float | None = field(None, "Largest norm of an agent's gradient; not clipped if not given.", gt=0.0)
    train_batch_size_per_learner: int = field(256, "Rows of each agent in a gradient step.", unit="rows", ge=1)
    dataset_num_iters_per_learner: int = field(500, "Gradient steps of an iteration.", unit="steps", ge=1)
    fcnet_hiddens: Widths = field((64, 64), "Widths of an agent's hidden layers.")


def layer_sizes(env: BatchedEnv, hiddens: Sequence[int]) -> tuple[int, ...]:
    """Widths of the layers of an agent's network, from its observation to its actions."""
    assert env.observation_space.shape is not None
    return (env.observation_space.shape[0], *hiddens, int(env.action_space.n))


class GradientConfig(OfflineMultiAgentConfig):
    """Configuration of a `GradientAlgorithm`; a subclass names its learner.

    Attributes:
        columns: Columns that the loss reads; those that were not recorded are left out.
    """

    settings: ClassVar[type[Configuration]] = GradientSettings
    columns: ClassVar[tuple[str, ...]]

    def columns_to_load(self) -> tuple[str, ...]:
        """The columns, where some depend on the settings."""
        return self.columns

    @property
    def rows_align(self) -> bool:
        """Whether the agents' rows must be of the same steps; not where each agent learns by itself."""
        return self.requirements.aligned


class GradientAlgorithm(OfflineMultiAgentAlgorithm):
    """Trains a `StackedModule` with the learner that the configuration names."""

    config: GradientConfig

    @override
    def prepare(self, env: BatchedEnv) -> None:
        self.agents = env.agents
        self._iterators = self.open_data(env)
        self.learner_group = self.config.build_learner_group(
            rl_module_spec=MultiRLModuleSpec(rl_module_specs={MODULE_ID: self.module_spec(env)})
        )

    def open_data(self, env: BatchedEnv) -> list[TensorIterator]:
        """Check the data set, and say how each Learner draws from its shard."""
        config = self.config
        dataset = load_dataset(Path(config.input_), environment=env)
        config.requirements.check_data(dataset)
        known = (*dataset.card.columns, "state", "new_state")
        columns = [name for name in config.columns_to_load() if name in known]
        shards = max(config.num_learners, 1)
        return [
            TensorIterator(
                [dataset.path],
                columns=columns,
                shard=i,
                num_shards=shards,
                seed=config.seed,
                aligned=config.rows_align,
            )
            for i in range(shards)
        ]

    def module_spec(self, env: BatchedEnv) -> RLModuleSpec:
        """What is trained: by default a network per agent from its observation to one value per action."""
        return RLModuleSpec(
            module_class=StackedModule,
            observation_space=env.observation_space,
            action_space=env.action_space,
            model_config={"num_agents": len(env.agents), "sizes": layer_sizes(env, self.config.fcnet_hiddens)},
        )

    @override
    def training_step(self) -> None:
        self.update(self.config.dataset_num_iters_per_learner)

    def update(self, num_iters: int) -> None:
        """Take gradient steps in all Learners, and log what they say of them.

        Raises:
            ProcessLost: Where a Learner's process is lost; RLlib would neither replace it nor, the next time, miss it.
        """
        try:
            results = self.learner_group.update(
                training_data=TrainingData(data_iterators=self._iterators),
                minibatch_size=self.config.train_batch_size_per_learner,
                num_iters=num_iters,
                timesteps={},
            )
        except RayError as error:
            # What a Learner raises comes wrapped, and those that wait for a lost one raise errors of the network.
            cause = getattr(error, "cause", error)
            if self.is_whole():
                raise cause from None
            results = []
        if len(results) < max(self.config.num_learners, 1):
            raise ProcessLost(
                f"a learner's process was lost in iteration {self.iteration + 1}; the run can go on from its last checkpoint, "
                "on the command line with `train --resume`, or by itself with `--max-failures`"
            )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)

    @override
    def is_whole(self) -> bool:
        return all(answer.ok for answer in self.learner_group.foreach_learner(lambda learner: None, healthy_only=False))

    def network(self, name: str = "network") -> StackedMLP:
        """A copy of a stack of networks of the module."""
        weights = self.learner_group.get_weights([MODULE_ID])[MODULE_ID]

        def layers(kind: str) -> list[torch.Tensor]:
            prefix = f"{name}.{kind}."
            return [torch.from_numpy(np.array(w)) for key, w in weights.items() if key.startswith(prefix)]

        return StackedMLP.from_layers(layers("weights"), layers("biases"))

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
