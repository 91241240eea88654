"""Offline multi-agent reinforcement learning for wireless networks, on Ray RLlib's new API stack."""

__version__ = "0.1.0"
