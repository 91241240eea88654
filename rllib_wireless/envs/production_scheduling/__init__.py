"""Production scheduling: units of a plant route products to where they can be worked on (SCAM-FQI)."""

from rllib_wireless.envs.production_scheduling.config import ProductionSchedulingConfig
from rllib_wireless.envs.production_scheduling.metrics import METRICS
from rllib_wireless.envs.production_scheduling.rules import (
    CongestionAware,
    CrowdingConfig,
    NoConfig,
    PathConfig,
    ShortestPath,
    Uniform,
    UniformNoDefer,
)
from rllib_wireless.envs.production_scheduling.simulator import ProductionScheduling
from rllib_wireless.envs.registry import EnvSpec, Rule, register

__all__ = ["ProductionScheduling", "ProductionSchedulingConfig"]

register(
    EnvSpec(
        env=ProductionScheduling,
        config=ProductionSchedulingConfig,
        rules={
            "uniform": Rule(Uniform, NoConfig, "every legal action with equal probability"),
            "uniform_no_defer": Rule(UniformNoDefer, NoConfig, "every legal move with equal probability"),
            "shortest_path": Rule(
                ShortestPath, PathConfig, "the way that is shortest if nothing else comes in between"
            ),
            "congestion_aware": Rule(
                CongestionAware,
                CrowdingConfig,
                "the way that is shortest if occupied units take longer; knows which are",
                privileged=True,
            ),
        },
        metrics=METRICS,
        description="units of a plant route products (SCAM-FQI)",
        objectives=("makespan",),
    )
)
