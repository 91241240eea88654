"""What the experiment is run with: sizes, seeds, the policies' settings, and what things are called."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rllib_wireless.algorithms.registry import VARIANTS

LABELS = {
    "never": "K = 0 (DCC's first iteration)",
    "dcc": "DCC (finite differences)",
    "dcc_lambda": "DCC (lambda substituted)",
    "dcc_overlap": "DCC (lambda, overlap, 15 updates)",
    "iql": "independent Q-learning",
    "iql_common": "independent Q-learning, common cost",
    "iql_long": "independent Q-learning, 6 times the slots",
    "threshold": "best symmetric threshold",
    "mappo": "MAPPO",
    "mappo_long": "MAPPO, 6 times the steps",
    "ippo": "IPPO",
    "a2c": "central A2C",
}

DCC_ARMS: Mapping[str, Mapping[str, Any]] = {
    "dcc": {},
    "dcc_lambda": {"gradient": "lambda_substitution"},
    "dcc_overlap": VARIANTS["dcc_overlap"][2],
}
"""The first solves 16 local problems a device, as the last; the second 6. Chosen on environments 30 to 34."""

IQL_ARMS: Mapping[str, Mapping[str, Any]] = {
    "iql": {},
    "iql_common": {"reward": "common"},
    "iql_long": {"learning_iterations": 96},
}

PPO_ARMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "mappo": ("mappo", {}),
    "mappo_long": ("mappo", {"num_iterations": 150}),
    "ippo": ("ippo", {}),
    "a2c": ("a2c", {}),
}
"""Algorithm and settings; by default PPO takes as many joint steps as tables have slots."""

QUALITY, NOT_WORSE, SPEED_UP, SAME_COST = 0.05, 0.02, 2.5, 1.2
"""Margins: above the best constraints; of the substituted gradient; its CPU time; cost per device from few to many."""


@dataclass(frozen=True)
class Scale:
    """How much is computed. Environment number k of a study has seed `environment_seed` + k; so has the learner in it.

    Args:
        name: `paper`, `demo` or another for trials.
        sizes: Number of environments by number of devices N.
        long_up_to: Largest N at which independent Q-learning is also given more slots.
        initial: Number of environments by N for the study of initial constraints.
        exponents: Exponents alpha of the penalty.
        exponent_sizes: Number of environments by N for the study of exponents.
        starts: Start laws of the study of start laws.
        start_sizes: Number of environments by N for it.
        small: Number of environments by N for the comparison with the best constraints.
        theory_devices: Devices of the small systems that linear programs are solved for.
        theory_seeds: How many of them for each exponent.
        large: Numbers of devices of which the cost per device is measured.
        ppo: Number of environments by arm of PPO and N.
        test_episodes: Episodes in which policies that are networks are measured; tables are evaluated exactly.
        environment_seed: First test environment. Settings were chosen on 30 to 34; DCC's defaults on 0 to 14 before.
        training_seed: The environment on which the study of initial constraints finds what constraints end up like.
        settings: Settings of all tabular learners, for trials.
        ppo_settings: Settings of PPO, likewise.
    """

    name: str
    sizes: Mapping[int, int]
    long_up_to: int
    initial: Mapping[int, int]
    exponents: tuple[float, ...]
    exponent_sizes: Mapping[int, int]
    starts: tuple[str, ...]
    start_sizes: Mapping[int, int]
    small: Mapping[int, int]
    theory_devices: int
    theory_seeds: int
    large: tuple[int, ...]
    ppo: Mapping[str, Mapping[int, int]]
    test_episodes: int = 2048
    environment_seed: int = 100
    training_seed: int = 30
    settings: Mapping[str, Any] = field(default_factory=dict)
    ppo_settings: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The settings for `results.json`."""
        variants = {
            name: {"label": LABELS[name], "settings": dict(s), "env_config": {}}
            for name, s in {**DCC_ARMS, **IQL_ARMS, **{name: found for name, (_, found) in PPO_ARMS.items()}}.items()
        }
        margins = {"quality": QUALITY, "not_worse": NOT_WORSE, "speed_up": SPEED_UP, "same_cost": SAME_COST}
        sizes = {
            name: _words(getattr(self, name)) for name in ("sizes", "initial", "exponent_sizes", "start_sizes", "small")
        }
        ppo = {"ppo": {variant: _words(found) for variant, found in self.ppo.items()}}
        return {**asdict(self), **sizes, **ppo, "variants": variants, "margins": margins}


def _words(sizes: Mapping[int, int]) -> str:
    return ", ".join(f"{count} with N = {n}" for n, count in sizes.items())


PAPER = Scale(
    "paper",
    sizes={10: 15, 20: 15, 50: 5, 200: 5},
    long_up_to=10,
    initial={10: 15, 20: 15},
    exponents=(0.5, 1.0, 2.0),
    exponent_sizes={10: 5, 20: 5},
    starts=("fresh", "uniform", "full"),
    start_sizes={10: 5},
    small={2: 5, 3: 15, 5: 15},
    theory_devices=3,
    theory_seeds=15,
    large=(10, 100, 1000),
    ppo={"mappo": {10: 5, 20: 5}, "mappo_long": {10: 3}, "ippo": {10: 5}, "a2c": {10: 5, 20: 5}},
)

DEMO = Scale(
    "demo",
    sizes={10: 5, 20: 5, 50: 2},
    long_up_to=10,
    initial={10: 5},
    exponents=(0.5, 1.0, 2.0),
    exponent_sizes={10: 2, 20: 2},
    starts=("fresh", "uniform"),
    start_sizes={10: 2},
    small={2: 2, 3: 2},
    theory_devices=3,
    theory_seeds=3,
    large=(10, 100),
    ppo={},
)
