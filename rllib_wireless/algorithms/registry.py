"""Algorithms by name; an algorithm's module, and with it Ray and torch, is imported when it is asked for."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rllib_wireless.configuration import FieldDoc
from rllib_wireless.errors import UserError

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig
    from rllib_wireless.algorithms.requirements import Requirements


@dataclass(frozen=True)
class AlgorithmSpec:
    """All that is known of an algorithm by name.

    Attributes:
        name: On the command line.
        title: Name of its class; its configuration is `<title>Config`.
        module: Where both are.
        description: What it is.
        iterations: How many iterations a run takes if not told; None for one that knows its own end.
        defaults: Settings in which a variant differs from the class's own defaults.
    """

    name: str
    title: str
    module: str
    description: str
    iterations: int | None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def algorithm(self) -> "type[OfflineMultiAgentAlgorithm]":
        """Its class."""
        found: Any = getattr(importlib.import_module(self.module), self.title)
        return found  # type: ignore[no-any-return]

    @property
    def config(self) -> "type[OfflineMultiAgentConfig]":
        """The class of its configuration."""
        found: Any = getattr(importlib.import_module(self.module), f"{self.title}Config")
        return found  # type: ignore[no-any-return]

    def new_config(self) -> "OfflineMultiAgentConfig":
        """A configuration with its defaults."""
        return self.config().training(**self.defaults)

    @property
    def settings(self) -> list[FieldDoc]:
        """Its hyper-parameters, with default, unit and meaning."""
        return self.config.settings.documentation()

    @property
    def requirements(self) -> "Requirements":
        """What it needs of its data."""
        return self.config.requirements


_SPECS = {
    spec.name: spec
    for spec in (
        AlgorithmSpec(
            "fedmorl",
            "FedMORL",
            "rllib_wireless.algorithms.fedmorl.fedmorl",
            "federated world models, then each client learns its policy in the model",
            iterations=None,
        ),
        AlgorithmSpec(
            "ctde_cql",
            "CTDECQL",
            "rllib_wireless.algorithms.ctde_cql.ctde_cql",
            "conservative discrete SAC or DQN: value decomposition, centralized or independent; online without data",
            iterations=20,
        ),
        AlgorithmSpec(
            "dcc",
            "DCC",
            "rllib_wireless.algorithms.dcc.dcc",
            "local constrained processes on three time scales, coordinated by one vector of constraints",
            iterations=None,
        ),
        AlgorithmSpec(
            "ppo",
            "PPO",
            "rllib_wireless.algorithms.baselines.ppo",
            "MAPPO, IPPO, or PPO of one central agent; A2C with other settings",
            iterations=None,
        ),
        AlgorithmSpec(
            "independent_q",
            "IndependentQ",
            "rllib_wireless.algorithms.baselines.independent_q",
            "tabular Q-learning of each device for itself, in the environment that all share",
            iterations=None,
        ),
        AlgorithmSpec(
            "scam_fqi",
            "SCAMFQI",
            "rllib_wireless.algorithms.scam_fqi.scam_fqi",
            "fitted Q iteration of each agent on what others share with it",
            iterations=None,
        ),
        AlgorithmSpec("bc", "BC", "rllib_wireless.algorithms.baselines.bc", "behaviour cloning", iterations=20),
    )
}


_A2C = {
    "paradigm": "centralized",
    "clip_param": None,
    "num_epochs": 1,
    "lambda_": 1.0,
    "rollout_fragment_length": 8,
    "train_batch_size_per_learner": 512,
    "lr": 7e-4,
}
_OVERLAP = {
    "gradient": "lambda_substitution",
    "congestion": "overlap",
    "constraint_step": "power",
    "constraint_updates": 15,
}
VARIANTS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "dcc_overlap": (
        "dcc",
        "DCC that counts how often devices offload in the same slots, one solution an update",
        _OVERLAP,
    ),
    "mappo": ("ppo", "policies of the own observation, a critic of the joint state", {}),
    "ippo": ("ppo", "each agent for itself", {"paradigm": "independent", "reward": "own"}),
    "a2c": ("ppo", "one central agent, one unclipped step per update", _A2C),
}
"""Further names: the algorithm that each is, what it is, and its settings."""


def algorithm_names() -> list[str]:
    """Names of all algorithms, without variants."""
    return sorted(_SPECS)


def algorithm_spec(name: str) -> AlgorithmSpec:
    """What is known of an algorithm.

    Raises:
        UserError: Where there is none of that name.
    """
    if name in VARIANTS:
        base, description, defaults = VARIANTS[name]
        return replace(_SPECS[base], name=name, description=description, defaults=defaults)
    if name not in _SPECS:
        raise UserError(
            f"there is no algorithm {name!r}; algorithms are {', '.join(algorithm_names())}; variants are {', '.join(VARIANTS)}"
        )
    return _SPECS[name]
