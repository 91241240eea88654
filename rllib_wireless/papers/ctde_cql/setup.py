"""What the experiment is run with: sizes, seeds, the learners' settings, and what things are called."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

ENV = "radio_resource"


@dataclass(frozen=True)
class Learner:
    """A way to learn a policy.

    Args:
        label: What figures and tables call it.
        settings: Settings that differ from the defaults.
        algorithm: Name of the algorithm.
    """

    label: str
    settings: Mapping[str, Any]
    algorithm: str = "ctde_cql"


LEARNERS = {
    "centralized": Learner("C-CQL (centralized)", {"paradigm": "centralized"}),
    "ctde": Learner("CTDE-CQL", {"paradigm": "ctde"}),
    "independent": Learner("I-CQL (independent)", {"paradigm": "independent"}),
    "centralized_dqn": Learner("C-CQL, DQN", {"paradigm": "centralized", "backbone": "dqn"}),
    "ctde_dqn": Learner("CTDE-CQL, DQN", {"paradigm": "ctde", "backbone": "dqn"}),
    "independent_dqn": Learner("I-CQL, DQN", {"paradigm": "independent", "backbone": "dqn"}),
    "bc": Learner("behaviour cloning", {"mode": "greedy"}, "bc"),
}

ONLINE = {
    "sac": Learner("online SAC", {"backbone": "sac", "cql_alpha": 0.0}),
    "dqn": Learner("online DQN", {"backbone": "dqn", "cql_alpha": 0.0}),
}
"""Learners that make behaviour data, without data of their own."""

EXPLORING = "_exploring"
"""What the name of a rule ends with that makes data with a share of random actions."""

EXPLORED = f"itlinq{EXPLORING}"

ACTING: Mapping[str, Mapping[str, Any]] = {
    "sac": {"mode": "sample"},
    "dqn": {"epsilon": 0.1},
    EXPLORED: {"epsilon": 0.4},
}
"""How data are made: by a policy's own randomness, or with a share of random actions."""

RULES = {
    "tdm": "TDM",
    "random": "random walk",
    "full_reuse": "full reuse",
    "local_threshold": "threshold on the own PF ratio",
    "itlinq": "ITLinQ, tuned",
    "delayed_genie": "greedy with delayed channels (privileged)",
    "genie": "greedy with true channels (privileged)",
}

LABELS = (
    {name: learner.label for name, learner in (LEARNERS | ONLINE).items()} | RULES | {EXPLORED: "ITLinQ, 40 % random"}
)

BASELINES = ("tdm", "random", "full_reuse", "local_threshold", "itlinq")
"""Rules that know no more than what access points measured one slot earlier."""

WORLDS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    **{f"lambda_{lam:g}": {"fairness_exponent": lam} for lam in (0.5, 0.7, 0.9)},
    "dense": {"area_m": 100.0},
    "told": {"sharing_radius": 1, "observation": "full"},
    "dense_told": {"area_m": 100.0, "sharing_radius": 1, "observation": "full"},
    "powers": {"reports": "powers"},
    "powers_told": {"reports": "powers", "sharing_radius": 1, "observation": "full"},
    "dense_powers": {"area_m": 100.0, "reports": "powers"},
    "dense_powers_told": {"area_m": 100.0, "reports": "powers", "sharing_radius": 1, "observation": "full"},
}
"""Fields of the environment that differ from the defaults, by name. In `dense` interference couples access points strongly; where
they are `told`, each also sees what all others measured; with `powers` users report what ITLinQ reads."""

EQUAL = {"500 m": "equal", "100 m": "equal_dense"}
"""Studies of equal information by area."""


@dataclass(frozen=True)
class Scale:
    """How much is computed. Training seed number k has a log, a learner and a test seed of its own, each the first plus k.

    Args:
        name: `paper`, `demo`, or another for trials.
        num_seeds: Training seeds of the headline.
        study_seeds: Training seeds of the studies.
        iterations: Checkpoints, of which the one with the best score on validation drops is kept.
        steps: Gradient steps between two of them.
        rows: Joint rows in a log.
        sizes: Joint rows in the logs of the study of sizes, `rows` among them.
        online_iterations: Checkpoints of the online learners.
        rollout_length: Slots that each of their copies acts in between two checkpoints.
        test_drops: Drops on which a policy is measured.
        validation_drops: Drops on which checkpoints are compared.
        wide: Widths of the hidden layers in the study of networks.
        long_seeds: Training seeds of the study of equal information.
        long_rows: Joint rows in its logs.
        long: Settings of its learners that differ from `settings`, by paradigm; gradient steps between checkpoints are among them.
        data_seed: Seed of the first log.
        train_seed: Seed of the first learner.
        online_seed: Seed of the first online learner.
        test_seed: First seed of the test; rules and learned policies are measured on the same drops.
        validation_seed: First seed of the validation drops.
        settings: Settings of all offline learners but behaviour cloning.
        online_settings: Settings of the online learners.
    """

    name: str
    num_seeds: int
    study_seeds: int
    iterations: int
    steps: int
    rows: int
    sizes: tuple[int, ...]
    online_iterations: int
    rollout_length: int
    test_drops: int
    validation_drops: int
    wide: tuple[int, ...] = (256, 256)
    data_seed: int = 200
    train_seed: int = 300
    online_seed: int = 400
    test_seed: int = 0
    validation_seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    online_settings: Mapping[str, Any] = field(default_factory=dict)
    long_seeds: int = 0
    long_rows: int = 0
    long: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The settings for `results.json`; `variants` are all learners with what differs from the defaults."""
        own = {**dict.fromkeys(LEARNERS, self.settings), **dict.fromkeys(ONLINE, self.online_settings), "bc": {}}
        variants = {
            name: {"label": learner.label, "settings": {**own[name], **learner.settings}, "env_config": {}}
            for name, learner in (LEARNERS | ONLINE).items()
        }
        return {**asdict(self), "variants": variants}


_SETTINGS = {"lr": 3e-3, "gamma": 0.0, "reward_scale": 1.0, "num_critics": 1}
"""Chosen on validation drops. The proportional-fair weights already hold the future of every user: with a discount of .9 the
score of an online centralized learner was 1.31, with 0 it was 1.41."""

_ONLINE_SETTINGS = {"lr": 1e-3, "gamma": 0.0}

_WIDE = (256, 256)
_LONG = {
    "centralized": {
        "fcnet_hiddens": _WIDE,
        "lr": 2e-3,
        "train_batch_size_per_learner": 512,
        "dataset_num_iters_per_learner": 3000,
    },
    "ctde": {"fcnet_hiddens": _WIDE, "lr": 1e-3, "dataset_num_iters_per_learner": 1000},
}
"""Chosen on validation drops of other seeds. Of 18 numbers of each access point, four of which make a SINR, more is to be learned than
of 6: a central critic of 2 x 64 had 1.28 after 3,000 smaller steps, one of 2 x 256 1.34 and after 20,000 1.54, still rising. What is
learned of the mean effect of an access point's own action is there after 2,000 to 4,000."""

PAPER = Scale(
    "paper",
    num_seeds=5,
    study_seeds=3,
    iterations=4,
    steps=500,
    rows=80_000,
    sizes=(5_000, 10_000, 20_000, 80_000, 320_000, 640_000),
    online_iterations=4,
    rollout_length=500,
    test_drops=200,
    validation_drops=100,
    settings=_SETTINGS,
    online_settings=_ONLINE_SETTINGS,
    long_seeds=3,
    long_rows=320_000,
    long=_LONG,
)
DEMO = Scale(
    "demo",
    num_seeds=3,
    study_seeds=0,
    iterations=3,
    steps=300,
    rows=20_000,
    sizes=(20_000,),
    online_iterations=3,
    rollout_length=500,
    test_drops=100,
    validation_drops=50,
    settings=_SETTINGS,
    online_settings=_ONLINE_SETTINGS,
)
