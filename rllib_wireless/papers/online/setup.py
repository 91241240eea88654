"""Where policies go on learning online, from which logs they start, and how what they became is tested."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rllib_wireless.papers.learning import Test


@dataclass(frozen=True)
class World:
    """An algorithm in an environment.

    Args:
        label: What figures call it.
        algorithm: Its name.
        env: The environment's name.
        env_config: Its configuration, of the first log and of the network in which learning goes on.
        behaviour: The rule that acts in the first log.
        steps: Joint decisions in it.
        metrics: What decides, the main one first, each with the margin within which a policy is not inferior.
        online: Settings of `OnlineSettings`.
        test: How policies are tested.
        test_fields: Fields of the environment that differ in the test.
        settings: Settings of the learner.
        iterations: Iterations of each training; the algorithm's own end if not given.
    """

    label: str
    algorithm: str
    env: str
    env_config: Mapping[str, Any]
    behaviour: str
    steps: int
    metrics: Mapping[str, float]
    online: Mapping[str, Any]
    test: Test
    test_fields: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    iterations: int | None = None


def _stations(number: int) -> World:
    return World(
        f"FedMORL (roll), {number} stations",
        "fedmorl",
        "channel_access",
        {"num_stations": number},
        "csma_ca",
        20_000,
        {"throughput_ratio": 0.01, "short_term_fairness": 0.03},
        {"steps": 20_000, "window": 1},
        Test(copies=64, steps=2_000, warmup_steps=200),
        settings={"policy_learning": "rollout"},
    )


WORLDS = {
    "radio": World(
        "CTDE-CQL, access points",
        "ctde_cql",
        "radio_resource",
        {"split": "train"},
        "random",
        1_000,
        {"score": 0.02},
        {"steps": 5_000},
        Test(copies=100, steps=None),
        {"split": "test"},
        {
            "gamma": 0.0,
            "lr": 3e-3,
            "reward_scale": 1.0,
            "num_critics": 1,
            "dataset_num_iters_per_learner": 500,
        },
        iterations=4,
    ),
    "stations_4": _stations(4),
    "stations_8": _stations(8),
}
"""By name. FedMORL's clients learn from their newest log alone: what they improve on is the policy that made it."""


@dataclass(frozen=True)
class Scale:
    """How much is computed. Seed number k has a first log, learners and a test of its own, each the first plus k.

    Args:
        name: `paper`, `demo`, or another for trials.
        worlds: Names of worlds.
        num_seeds: Seeds.
        deployments: Deployments of each.
        steps: Joint decisions in the first log and in those of deployments, in place of the worlds' own.
        data_seed: Seed of the first log.
        train_seed: Seed of the first learner, and of its deployments.
        test_seed: First seed of the test.
    """

    name: str
    worlds: tuple[str, ...]
    num_seeds: int
    deployments: int
    steps: int | None = None
    data_seed: int = 900
    train_seed: int = 900
    test_seed: int = 0

    def describe(self) -> dict[str, Any]:
        """The settings for `results.json`."""
        return {**asdict(self), "worlds": {name: asdict(WORLDS[name]) for name in self.worlds}}


PAPER = Scale("paper", tuple(WORLDS), num_seeds=5, deployments=5)
DEMO = Scale("demo", ("radio",), num_seeds=2, deployments=2, steps=1_000)
