"""Task offloading: devices with batteries and ageing information share an edge server (DCC)."""

from rllib_wireless.envs.registry import EnvSpec, Rule, register
from rllib_wireless.envs.task_offloading.config import TaskOffloadingConfig
from rllib_wireless.envs.task_offloading.metrics import METRICS
from rllib_wireless.envs.task_offloading.rules import (
    NeverOffload,
    ProcessConfig,
    Random,
    RandomConfig,
    Threshold,
    ThresholdConfig,
)
from rllib_wireless.envs.task_offloading.simulator import TaskOffloading

__all__ = ["TaskOffloading", "TaskOffloadingConfig"]

register(
    EnvSpec(
        env=TaskOffloading,
        config=TaskOffloadingConfig,
        rules={
            "never_offload": Rule(NeverOffload, ProcessConfig, "process locally at thresholds, never offload"),
            "random": Rule(Random, RandomConfig, "act at random"),
            "threshold": Rule(Threshold, ThresholdConfig, "process if the battery allows, else offload what is old"),
        },
        metrics=METRICS,
        description="devices share an edge server (DCC)",
        objectives=("discounted_cost",),
    )
)
