"""Small plants that several test modules build."""

from typing import Any

from rllib_wireless.envs import make_env
from rllib_wireless.envs.production_scheduling import ProductionScheduling

NAME = "production_scheduling"
SMALL: dict[str, Any] = {"plant": "grid_3x3", "max_decisions": 90}
GENERATED: dict[str, Any] = {"plant": "generated", "rows": 3, "columns": 3, "num_operations": 4, "ability_share": 0.3}


def build(num_envs: int = 1, **config: Any) -> ProductionScheduling:
    env = make_env(NAME, num_envs, **config)
    assert isinstance(env, ProductionScheduling)
    return env
