"""802.11 distributed channel access: N stations share one channel (FedMORL)."""

from rllib_wireless.envs.channel_access.config import SLOT_US, ChannelAccessConfig
from rllib_wireless.envs.channel_access.metrics import METRICS
from rllib_wireless.envs.channel_access.rules import BackoffConfig, CsmaCa, CsmaEca, NoConfig, Tdma
from rllib_wireless.envs.channel_access.simulator import ChannelAccess
from rllib_wireless.envs.registry import EnvSpec, Rule, register

__all__ = ["SLOT_US", "BackoffConfig", "ChannelAccess", "ChannelAccessConfig", "CsmaCa", "CsmaEca", "Tdma"]

register(
    EnvSpec(
        env=ChannelAccess,
        config=ChannelAccessConfig,
        rules={
            "ac_vo": Rule(CsmaCa, BackoffConfig, "EDCA voice, CW 7 to 15", defaults={"cw_min": 7, "cw_max": 15}),
            "ac_vi": Rule(CsmaCa, BackoffConfig, "EDCA video, CW 15 to 31", defaults={"cw_min": 15, "cw_max": 31}),
            "ac_be": Rule(
                CsmaCa, BackoffConfig, "EDCA best effort, CW 31 to 1023", defaults={"cw_min": 31, "cw_max": 1023}
            ),
            "csma_ca": Rule(CsmaCa, BackoffConfig, "DCF, CW 7 to 1023: the paper's data source"),
            "csma_eca": Rule(
                CsmaEca,
                BackoffConfig,
                "DCF with fixed backoff after a success",
                defaults={"cw_min": 31, "cw_max": 1023},
            ),
            "tdma": Rule(Tdma, NoConfig, "perfect round robin, the upper bound", privileged=True),
        },
        metrics=METRICS,
        description="802.11 stations share one channel (FedMORL)",
        objectives=("throughput_ratio", "short_term_fairness"),
    )
)
