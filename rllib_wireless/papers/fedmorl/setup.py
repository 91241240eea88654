"""What the paper-scale experiment is run with: sizes, seeds, the variants' settings, and what things are called."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rllib_wireless.papers.fedmorl.learning import Run
from rllib_wireless.papers.learning import Test


@dataclass(frozen=True)
class Variant:
    """A way to learn a policy.

    Args:
        label: What figures and tables call it.
        settings: Settings of FedMORL that differ from the defaults.
        env_config: Fields of the environment that differ from the defaults.
    """

    label: str
    settings: Mapping[str, Any]
    env_config: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = {
    "plan": Variant("FedMORL (plan)", {"policy_learning": "planner"}),
    "roll": Variant("FedMORL (roll)", {"policy_learning": "rollout"}),
    "play": Variant("FedMORL (self-play)", {"policy_learning": "self_play", "policy_iterations": 1}),
}
"""The headline's policies, with the same settings at every N; chosen on other seeds than those of the scales below."""

RULES = {
    "ac_be": "AC_BE",
    "ac_vi": "AC_VI",
    "ac_vo": "AC_VO",
    "csma_ca": "CSMA/CA (data source)",
    "csma_eca_cold": "CSMA/ECA, cold",
    "csma_eca_warm": "CSMA/ECA, warm",
    "tdma": "TDMA (bound)",
}
LABELS = {name: variant.label for name, variant in VARIANTS.items()} | RULES

REFERENCE, SOURCE = "ac_be", "csma_ca"

MARGINS = {"throughput_ratio": 0.01, "short_term_fairness": 0.03}
"""A policy is not inferior where the lower 95 % bound of the difference is above minus this."""


@dataclass(frozen=True)
class Scale:
    """How much is computed. Training seed number k has a log, a learner and a test seed of its own, each the first plus k.

    Args:
        name: `paper`, or another for trials.
        num_stations: Network sizes N.
        num_seeds: Training seeds at each N.
        test: How learned policies are measured.
        data_steps: Joint decisions in a log.
        data_seed: Seed of the first log.
        train_seed: Seed of the first learner.
        test_seed: First seed of the comparison; rules and learned policies are measured on the same ones.
        rule_busy_periods: Busy periods over which the rules are measured, in 16 copies.
        rule_warmup: Busy periods before those; CSMA/ECA is measured without, too.
        eca_warmup: Busy periods after which CSMA/ECA counts as warm.
        study_stations: Network size of the studies.
        study_seeds: Training seeds of the studies.
        shards: Rows of a client in the study of federation.
        settings: Settings of all learners, for trials.
    """

    name: str
    num_stations: tuple[int, ...]
    num_seeds: int
    test: Test
    data_steps: int = 40_000
    data_seed: int = 200
    train_seed: int = 300
    test_seed: int = 0
    rule_busy_periods: int = 10_000
    rule_warmup: int = 1_000
    eca_warmup: int = 100_000
    study_stations: int = 8
    study_seeds: int = 5
    shards: tuple[int, ...] = (300, 1_000, 5_000)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def run(self, name: str, variant: Variant, stations: int, seed: int, **changes: Any) -> Run:
        """Training seed number `seed` of a variant, with changes to the fields of `Run`."""
        given: dict[str, Any] = {
            "name": name,
            "env_config": {"num_stations": stations, **variant.env_config},
            "steps": self.data_steps,
            "data_seed": self.data_seed + seed,
            "train_seed": self.train_seed + seed,
            "test_seed": self.test_seed + seed,
            "test": self.test,
            "settings": {**variant.settings, **self.settings},
        }
        return Run(**{**given, **changes})

    def describe(self) -> dict[str, Any]:
        """The settings for `results.json`."""
        return {**asdict(self), "variants": {name: asdict(v) for name, v in VARIANTS.items()}, "margins": MARGINS}


# The intervals of such a test, .002 in throughput and .006 in fairness at most, are a fifth of the margins.
PAPER = Scale("paper", tuple(range(2, 15)), num_seeds=5, test=Test(copies=32, steps=10_000, warmup_steps=2_000))
