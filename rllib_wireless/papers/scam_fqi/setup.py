"""What the experiment is run with: plants, who shares what, seeds, settings, and what things are called."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rllib_wireless.papers.learning import Test

RULES = {
    "uniform": "uniform",
    "uniform_no_defer": "uniform, no defers",
    "shortest_path": "shortest path",
    "congestion_aware": "congestion-aware (privileged)",
}


@dataclass(frozen=True)
class World:
    """Where agents learn, from what, and how they are measured.

    Args:
        fields: Fields of the environment.
        env: Name of the environment.
        rules: Rules measured beside learned policies, with their labels; the first one writes the log.
        metrics: What is measured, the main metric first.
        steps: Joint decisions in a log, if not the scale's.
        test: How policies are measured, if not in the scale's number of episodes.
        test_fields: Fields of the environment that differ in the test.
        settings: Settings of the learner.
    """

    fields: Mapping[str, Any]
    env: str = "production_scheduling"
    rules: Mapping[str, str] = field(default_factory=lambda: RULES)
    metrics: tuple[str, ...] = ("makespan", "livelock", "deferral_rate", "conflict_rate")
    steps: int | None = None
    test: Test | None = None
    test_fields: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


WORLDS = {
    "different": World({"products": "A,B,C", "defer": "forced"}),
    "same": World({"products": "A*5", "defer": "forced"}),
    "different_always": World({"products": "A,B,C"}),
    "same_always": World({"products": "A*5"}),
    "different_serial": World({"products": "A,B,C", "defer": "forced", "clock": "serial"}),
    "same_serial": World({"products": "A*5", "defer": "forced", "clock": "serial"}),
    "different_serial_always": World({"products": "A,B,C", "clock": "serial"}),
    "same_serial_always": World({"products": "A*5", "clock": "serial"}),
    "access_points": World(
        {"split": "train"},
        "radio_resource",
        {"random": "random walk (the log)", "full_reuse": "full reuse", "itlinq": "ITLinQ, tuned"},
        ("score", "sum_rate", "tail_rate"),
        steps=40_000,
        test=Test(copies=100, steps=None),
        test_fields={"split": "test"},
        settings={"gamma": 0.0},
    ),
    "stations": World(
        {"num_stations": 4},
        "channel_access",
        {"csma_ca": "CSMA/CA (the log)", "tdma": "TDMA (privileged)"},
        ("throughput_ratio", "collision_rate", "jain_fairness"),
        steps=40_000,
        test=Test(copies=64, steps=2_000, warmup_steps=200),
        settings={"gamma": 0.999, "discount": "time"},
    ),
}
"""By name: the products of figure 1, whether a unit may keep a product that it could move, the clock; and two wireless networks.

Access points share weights or all that they measured, stations their delays or queues, too. The proportional-fair reward of a
slot holds the future of every user already, so its discount is 0."""

FIGURE_1 = {"different": "(a) 3 different products", "same": "(b) 5 products of the same kind"}
"""The plants of both parts of the paper's figure."""

CQL, SELECTED = "cql", "selected"


@dataclass(frozen=True)
class Sharing:
    """Who shares what, and who learns from it.

    Args:
        label: What figures and tables call it; the paper's d is the radius plus one.
        fields: Fields of the environment.
        cost: How long learning takes beside others.
        algorithm: What learns.
        settings: Its settings, where it is not SCAM-FQI with those of the scale.
    """

    label: str
    fields: Mapping[str, Any]
    cost: float = 1.0
    algorithm: str = "scam_fqi"
    settings: Mapping[str, Any] = field(default_factory=dict)


def _ball(radius: int | None, observation: str) -> Sharing:
    who = "all" if radius is None else f"d = {radius + 1}"
    wide = observation == "full" and radius != 1
    return Sharing(
        f"{who}, {observation}", {"sharing_radius": radius, "observation": observation}, 4.0 if wide else 1.0
    )


SHARING: Mapping[str, Sharing] = {
    "own": Sharing("own state only (d = 1)", {"sharing_radius": 0}),
    CQL: Sharing(
        "independent CQL, d = 2, compressed",
        {},  # as the log was observed
        4.0,
        "ctde_cql",
        {"paradigm": "independent", "backbone": "dqn", "discount": "decision", "gamma": 0.99},
    ),
    **{f"{r}{form[0]}": _ball(r, form) for r in (1, 2, 3) for form in ("compressed", "full")},
    **{f"all_{form[0]}": _ball(None, form) for form in ("compressed", "full")},
    SELECTED: Sharing("selected graph, compressed", {"observation": "compressed"}, 20.0),
}
"""By name. The selected graph is made from the log of each training seed."""


@dataclass(frozen=True)
class Scale:
    """How much is computed. Training seed number k has a log, a learner and a test seed of its own, each the first plus k.

    Args:
        name: `paper`, `demo`, or another for trials.
        num_seeds: Training seeds of figure 1.
        study_seeds: Training seeds of the studies.
        steps: Joint decisions in a log; 250 to 320 are an episode of the uniform policy, so the paper's thousand are 300,000.
        iterations: Iterations K.
        measured: The iterations after which policies are measured, the last one among them.
        early: Those of them whose mean tells how fast it converges.
        test_episodes: Episodes in which a policy is measured.
        greedy_episodes: Episodes in which it is measured without random actions; such episodes may be long.
        sharing: Names of what is shared in figure 1.
        leaves: Fewest rows of a leaf, in the study of it.
        leaf_sharing: Names of what is shared in that study.
        studies: Whether the studies of the start, of defers, of the clock and of wireless networks are run.
        leaf: Fewest rows of a leaf everywhere else.
        start: What follows a decision in the first iteration, everywhere but in the study of it.
        selection_rows: Decisions of each unit by which information is estimated where a sharing graph is selected.
        data_seed: Seed of the first log.
        train_seed: Seed of the first learner.
        test_seed: First seed of the test; rules and learned policies are measured on the same episodes.
        settings: Further settings of the learner.
    """

    name: str
    num_seeds: int
    study_seeds: int
    steps: int
    iterations: int
    measured: tuple[int, ...]
    early: tuple[int, ...]
    test_episodes: int
    greedy_episodes: int
    sharing: tuple[str, ...]
    leaves: tuple[int, ...]
    leaf_sharing: tuple[str, ...]
    studies: bool = True
    leaf: int = 5
    start: str = "monte_carlo"
    selection_rows: int = 8000
    data_seed: int = 0
    train_seed: int = 0
    test_seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The settings for `results.json`; `variants` are what is shared, as fields of the environment."""
        variants = {
            name: {"label": SHARING[name].label, "settings": {}, "env_config": dict(SHARING[name].fields)}
            for name in self.sharing
        }
        return {**asdict(self), "variants": variants}


_SETTINGS = {"n_estimators": 10}

PAPER = Scale(
    "paper",
    num_seeds=5,
    study_seeds=3,
    steps=300_000,
    iterations=4,
    measured=(1, 2, 4),
    early=(1, 2),
    test_episodes=100,
    greedy_episodes=25,
    sharing=tuple(SHARING),
    leaves=(1, 5, 20),
    leaf_sharing=("own", "1c", "all_c", "all_f"),
    settings=_SETTINGS,
)
DEMO = Scale(
    "demo",
    num_seeds=3,
    study_seeds=0,
    steps=20_000,
    iterations=3,
    measured=(1, 2, 3),
    early=(1, 2),
    test_episodes=50,
    greedy_episodes=25,
    sharing=("own", "1c", "1f", "all_c"),
    leaves=(5,),
    leaf_sharing=(),
    studies=False,
    settings=_SETTINGS,
)
