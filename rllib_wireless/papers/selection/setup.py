"""What the experiment is run with: networks, their logs, the policies that are judged, and how they are judged."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rllib_wireless.papers.learning import Test


@dataclass(frozen=True)
class Source:
    """Where policies come from: a learner, its log, and the iterations after which its policy is kept.

    Args:
        label: What tables call it.
        algorithm: Name of the algorithm.
        settings: Its settings that differ from the defaults.
        behaviours: What acts in its log, with shares; the judged log itself where there are none.
        kept: Iterations after which the policy is kept.
        epsilons: Shares of uniformly random actions; a policy for each.
    """

    label: str
    algorithm: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    behaviours: tuple[str, ...] = ()
    kept: tuple[int, ...] = (1,)
    epsilons: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class World:
    """A network.

    Args:
        env: Name of the environment.
        env_config: Its configuration.
        behaviours: What acted in the log.
        test_config: What differs in the test.
        test: How true returns are measured.
        metric: The environment's own metric that is told beside the return.
        recorded: Whether the log holds probabilities of actions; else they are fitted.
        plays: Whether the world model tells the game of all, or one agent's view alone.
        sources: The policies.
        arguments: Arguments of all estimates.
        copies: Copies of the environment that the log is of.
    """

    env: str
    env_config: Mapping[str, Any]
    behaviours: tuple[str, ...]
    test_config: Mapping[str, Any]
    test: Test
    metric: str
    recorded: bool
    plays: bool
    sources: Mapping[str, Source]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    copies: int = 16


_CQL = {"dataset_num_iters_per_learner": 300}
_SCHEDULING = {**_CQL, "lr": 3e-3, "gamma": 0.0, "num_critics": 1}


def _clone(rule: str, epsilons: tuple[float, ...], kept: tuple[int, ...] = (8,)) -> Source:
    return Source(f"clone of {rule}", "bc", {"dataset_num_iters_per_learner": 100}, (rule,), kept, epsilons)


def _cql(alpha: float, kept: tuple[int, ...], epsilons: tuple[float, ...], **settings: Any) -> Source:
    named = "".join(f", {value}" for value in settings.values() if isinstance(value, str))
    return Source(
        f"CTDE-CQL{named}, alpha = {alpha:g}", "ctde_cql", {"cql_alpha": alpha, **settings}, (), kept, epsilons
    )


WORLDS: Mapping[str, World] = {
    "channel_access": World(
        env="channel_access",
        env_config={"num_stations": 4},
        behaviours=("csma_ca",),
        test_config={},
        test=Test(copies=32, steps=4_000, warmup_steps=500),
        metric="throughput_ratio",
        recorded=False,
        plays=True,
        sources={
            "csma_ca": _clone("csma_ca", (0.0, 0.05, 0.2), (1, 8)),
            "csma_eca": _clone("csma_eca", (0.0, 0.05, 0.2)),
            "ac_be": _clone("ac_be", (0.0, 0.05, 0.2)),
            "ac_vi": _clone("ac_vi", (0.0, 0.2)),
            "ac_vo": _clone("ac_vo", (0.0, 0.2)),
            "cql_0.1": _cql(0.1, (1, 4), (0.0, 0.03, 0.15), **_CQL),
            "cql_1": _cql(1.0, (4,), (0.0, 0.03, 0.15), **_CQL),
            "fedmorl": Source("FedMORL, planner", "fedmorl", {}, (), (0,), (0.0, 0.05)),
        },
    ),
    "radio_resource": World(
        env="radio_resource",
        # The sum rate as reward: with proportional-fair weights all policies' long-run returns are nearly alike.
        env_config={"fairness_exponent": 0.0},
        behaviours=("random",),
        test_config={"split": "test"},
        test=Test(copies=100, steps=None),
        metric="score",
        recorded=True,
        plays=False,
        # What an action brings to the sum rate it brings at once; a longer view adds noise alone.
        arguments={"gamma": 0.5},
        copies=100,  # an episode is a drop, and a log of few drops says little of others
        sources={
            "full_reuse": _clone("full_reuse", (0.0, 0.2, 0.5)),
            "itlinq": _clone("itlinq", (0.0, 0.2), (1, 8)),
            "tdm": _clone("tdm", (0.0, 0.2)),
            "random": _clone("random", (0.0,)),
            "ctde_0.1": _cql(0.1, (1, 3), (0.0, 0.3), paradigm="ctde", **_SCHEDULING),
            "ctde_1": _cql(1.0, (1, 3), (0.0,), paradigm="ctde", **_SCHEDULING),
            "independent_0.1": _cql(0.1, (1, 3), (0.0, 0.3), paradigm="independent", **_SCHEDULING),
            "independent_1": _cql(1.0, (3,), (0.0,), paradigm="independent", **_SCHEDULING),
        },
    ),
}


@dataclass(frozen=True)
class Judge:
    """A way to estimate.

    Args:
        label: What figures and tables call it.
        arguments: Arguments of `estimate`.
    """

    label: str
    arguments: Mapping[str, Any]


JUDGES: Mapping[str, Judge] = {
    "fqe": Judge("FQE, joint critic", {}),
    "fqe_sum": Judge("FQE, sum of critics", {"critic": "sum"}),
    "fqe_own": Judge("FQE, own critics", {"view": "agents"}),
    "importance": Judge("importance sampling", {"method": "importance"}),
    "model": Judge("world model", {"method": "model"}),
}


@dataclass(frozen=True)
class Scale:
    """How much is computed.

    Args:
        name: `paper`, `demo`, or another for trials.
        steps: Joint decisions in a log.
        worlds: Which networks.
        sources: How many sources of each at most.
        judges: How policies are judged.
        data_seed: Seed of the logs.
        train_seed: Seed of the learners.
        test_seed: Seed of the true returns.
        judge_seed: Seed of the estimates.
        judge_settings: Settings of fitted Q evaluation, for trials.
        train_settings: Settings of the world model's run, for trials.
        test: How true returns are measured, in place of the networks' own ways, for trials.
    """

    name: str
    steps: int
    worlds: tuple[str, ...] = tuple(WORLDS)
    sources: int | None = None
    judges: tuple[str, ...] = tuple(JUDGES)
    data_seed: int = 900
    train_seed: int = 910
    test_seed: int = 920
    judge_seed: int = 930
    judge_settings: Mapping[str, Any] = field(default_factory=dict)
    train_settings: Mapping[str, Any] = field(default_factory=dict)
    test: Test | None = None

    def describe(self) -> dict[str, Any]:
        """The settings for `results.json`."""
        return asdict(self)

    def sources_of(self, world: str) -> list[str]:
        """The names of a network's sources."""
        return list(WORLDS[world].sources)[: self.sources]


PAPER = Scale("paper", steps=15_000)
DEMO = Scale("demo", steps=8_000, sources=5, judges=("fqe", "fqe_own", "importance"))
