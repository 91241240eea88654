"""Checkers for your own environments and policies; their messages name the remedy."""

from rllib_wireless.testing.check import CheckFailed
from rllib_wireless.testing.env import check_env
from rllib_wireless.testing.policy import check_policy

__all__ = ["CheckFailed", "check_env", "check_policy"]
