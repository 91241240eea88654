"""What is searched, on which logs, and how what was found is tested."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rllib_wireless.papers.learning import Test


@dataclass(frozen=True)
class Search:
    """A sweep of one algorithm in one environment.

    Args:
        algorithm: Its name.
        env: The environment's name.
        env_config: Its configuration.
        behaviour: The rule that acts in the logs.
        steps: Joint decisions in a log.
        metrics: The objectives; for all of them more is better.
        test: How policies are tested.
        test_fields: Fields of the environment that differ in the test.
        settings: Settings that are fixed.
    """

    algorithm: str
    env: str
    env_config: Mapping[str, Any]
    behaviour: str
    steps: int
    metrics: tuple[str, ...]
    test: Test
    test_fields: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


SEARCHES = {
    "ctde_cql": Search(
        "ctde_cql",
        "radio_resource",
        {"split": "train"},
        "random",
        40_000,
        ("score",),
        Test(copies=200, steps=None),
        {"split": "test"},
        {"dataset_num_iters_per_learner": 300},
    ),
    "fedmorl": Search(
        "fedmorl",
        "channel_access",
        {"num_stations": 8},
        "csma_ca",
        40_000,
        ("throughput_ratio", "short_term_fairness"),
        Test(copies=64, steps=4_000, warmup_steps=500),
    ),
}
"""By name: what the pages of both algorithms' results show."""


@dataclass(frozen=True)
class Scale:
    """How much is computed.

    Args:
        name: `paper`, `demo`, or another for trials.
        trials: Configurations of each sweep, by its name.
        iterations: Iterations of each training, by the sweep's name; None where the algorithm knows its own end.
        test_seeds: Logs, learners and tests by which what was found is compared with the defaults.
        sweep_seed: Seed of the sweep's log, its trials and its search.
        data_seed: Seed of the first log of the test.
        train_seed: Seed of the first learner of the test.
        test_seed: First seed of the test.
    """

    name: str
    trials: Mapping[str, int]
    iterations: Mapping[str, int | None]
    test_seeds: int
    sweep_seed: int = 700
    data_seed: int = 800
    train_seed: int = 800
    test_seed: int = 0

    def describe(self) -> dict[str, Any]:
        """The settings for `results.json`."""
        return {**asdict(self), "searches": {name: asdict(search) for name, search in SEARCHES.items()}}


PAPER = Scale("paper", {"ctde_cql": 16, "fedmorl": 36}, {"ctde_cql": 4, "fedmorl": None}, test_seeds=5)
DEMO = Scale("demo", {"ctde_cql": 4, "fedmorl": 2}, {"ctde_cql": 1, "fedmorl": None}, test_seeds=2)
