"""Algorithms by name; an algorithm's module, and with it Ray and torch, is imported when it is asked for."""

import importlib
from dataclasses import dataclass
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
    """

    name: str
    title: str
    module: str
    description: str
    iterations: int | None

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
        AlgorithmSpec("bc", "BC", "rllib_wireless.algorithms.baselines.bc", "behaviour cloning", iterations=20),
    )
}


def algorithm_names() -> list[str]:
    """Names of all algorithms."""
    return sorted(_SPECS)


def algorithm_spec(name: str) -> AlgorithmSpec:
    """What is known of an algorithm.

    Raises:
        UserError: Where there is none of that name.
    """
    if name not in _SPECS:
        raise UserError(f"there is no algorithm {name!r}; algorithms are {', '.join(algorithm_names())}")
    return _SPECS[name]
