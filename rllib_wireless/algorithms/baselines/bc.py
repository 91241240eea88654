"""Behaviour cloning: each agent learns to act as it did in the data."""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass
from ray.rllib.core import Columns
from typing_extensions import override

from rllib_wireless.algorithms.gradient import GradientAlgorithm, GradientConfig, GradientSettings
from rllib_wireless.algorithms.losses import Loss, imitation
from rllib_wireless.algorithms.requirements import Requirements
from rllib_wireless.algorithms.stacked import Batch, StackedLearner
from rllib_wireless.configuration import CONFIG, field
from rllib_wireless.policies import NetworkPolicy


@dataclass(frozen=True, config=CONFIG)
class BCSettings(GradientSettings):
    """Hyper-parameters of behaviour cloning."""

    owner: ClassVar[str] = "bc"

    mode: Literal["sample", "greedy"] = field(
        "sample", "How the policy acts. Stations that see the same and act greedily all collide or all stay silent."
    )


class BCConfig(GradientConfig):
    r"""Configuration of behaviour cloning.

    Each agent i minimises the cross-entropy of its logged actions,

    .. math:: L_i = -E_{(o, a) \sim D_i}[\log \pi_i(a | o)]

    over rows in which it acts, with softmax policies over the legal actions. With categorical policies and enough data this
    recovers the probabilities with which the data were collected.

    .. code-block:: python

        config = (
            BCConfig()
            .environment("channel_access", env_config={"num_stations": 8})
            .offline_data(input_="data/csma")
            .training(lr=1e-3, train_batch_size_per_learner=256)
            .evaluation(evaluation_interval=1)
        )
        algo = config.build_algo()
        algo.train()
        algo.export_policy("out/policy")

    Its fields are those of `BCSettings`.
    """

    settings = BCSettings
    requirements = Requirements()
    columns = ("obs", "actions", "action_mask", "acting")

    def __init__(self, algo_class: type["BC"] | None = None) -> None:
        super().__init__(algo_class=algo_class or BC)

    @override
    def get_default_learner_class(self) -> type["BCLearner"]:
        return BCLearner


class BCLearner(StackedLearner):
    """Learner of behaviour cloning."""

    @override
    def loss(self, batch: Batch, outputs: Batch) -> Loss:
        logits = outputs[Columns.ACTION_DIST_INPUTS]
        acting = batch.get("acting")
        loss = imitation(logits, batch["actions"], batch["action_mask"], acting)
        return Loss(self.balanced(loss.total, acting), loss.terms)


class BC(GradientAlgorithm):
    """Behaviour cloning."""

    @classmethod
    @override
    def get_default_config(cls) -> BCConfig:
        return BCConfig()

    @override
    def policy(self) -> NetworkPolicy:
        return NetworkPolicy(self.network(), self.agents, self.config.mode)
