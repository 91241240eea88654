"""CTDE-CQL: conservative discrete SAC and DQN with value decomposition."""
