"""Radio resource management: access points schedule users under each other's interference (CTDE-CQL)."""

from rllib_wireless.envs.radio_resource.config import RadioResourceConfig
from rllib_wireless.envs.radio_resource.coordination import Genie, GenieConfig, Itlinq, ItlinqConfig
from rllib_wireless.envs.radio_resource.metrics import METRICS
from rllib_wireless.envs.radio_resource.rules import FullReuse, NoConfig, RandomWalk, Tdm
from rllib_wireless.envs.radio_resource.simulator import RadioResource
from rllib_wireless.envs.registry import EnvSpec, Rule, register

__all__ = ["FullReuse", "Genie", "Itlinq", "RadioResource", "RadioResourceConfig", "RandomWalk", "Tdm"]

register(
    EnvSpec(
        env=RadioResource,
        config=RadioResourceConfig,
        rules={
            "random": Rule(RandomWalk, NoConfig, "silence or one of the best users, uniform: the random walk"),
            "tdm": Rule(Tdm, NoConfig, "one access point on after the other, with its best user"),
            "full_reuse": Rule(FullReuse, NoConfig, "all access points on, with their best users"),
            "itlinq": Rule(
                Itlinq, ItlinqConfig, "access points on whose best users interfere weakly, as last measured"
            ),
            "genie": Rule(Genie, GenieConfig, "best reward of the coming slot, its channel known", privileged=True),
        },
        metrics=METRICS,
        description="access points schedule users under interference (CTDE-CQL)",
        objectives=("score",),
        validation={"split": "validation"},
    )
)
