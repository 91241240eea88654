"""Choosing settings and policies: sweeps, and offline estimates of what a policy is worth."""

from rllib_wireless.tuning.offline import Estimate, estimate
from rllib_wireless.tuning.sweep import resume_sweep, tune

__all__ = ["Estimate", "estimate", "resume_sweep", "tune"]
