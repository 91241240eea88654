"""Checkers for your own environments, policies and algorithms; their messages name the remedy.

`check_algorithm` and `matrix` are in `rllib_wireless.testing.algorithm`, which imports Ray and torch.
"""

from rllib_wireless.testing.check import CheckFailed
from rllib_wireless.testing.env import check_env
from rllib_wireless.testing.policy import check_policy

__all__ = ["CheckFailed", "check_env", "check_policy"]
