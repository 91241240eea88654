"""Algorithms as RLlib configurations and Algorithms on the new API stack; `registry` finds them by name."""

from rllib_wireless.algorithms.registry import algorithm_names, algorithm_spec

__all__ = ["algorithm_names", "algorithm_spec"]
