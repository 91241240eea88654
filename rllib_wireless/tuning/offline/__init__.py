"""What a policy is worth, from logs alone: no simulator, no trial on the live network."""

from rllib_wireless.tuning.offline.estimate import METHODS, Estimate, Method, estimate

__all__ = ["METHODS", "Estimate", "Method", "estimate"]
