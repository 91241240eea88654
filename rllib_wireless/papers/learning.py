"""From logs to a measured policy: what every cell with a learned policy does."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.data import Behaviour, collect
from rllib_wireless.envs import env_spec
from rllib_wireless.envs.base import Statistics
from rllib_wireless.policies.evaluation import Evaluation, evaluate

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm


@dataclass(frozen=True)
class Test:
    """How a policy is measured.

    Args:
        copies: Copies of the environment.
        steps: Decisions in each; where metrics need whole episodes None, which is an episode or more of each.
        warmup_steps: Decisions before those.
    """

    copies: int
    steps: int | None
    warmup_steps: int = 0


@dataclass(frozen=True, kw_only=True)
class Run:
    """One log, one training and one test.

    Args:
        name: Name of its working folder.
        env: Name of the environment.
        env_config: Its configuration.
        steps: Joint decisions in the log; 0 where it learns online.
        data_seed: Seed of the log.
        train_seed: Seed of the learner.
        test_seed: Seed of the test.
        test: How the policy is measured.
        behaviours: What acts in the log.
        algorithm: The learner.
        settings: Its settings that differ from the defaults.
        iterations: Iterations of training; the algorithm's own number if not given.
    """

    name: str
    env: str
    env_config: Mapping[str, Any]
    steps: int
    data_seed: int
    train_seed: int
    test_seed: int
    test: Test
    behaviours: tuple[Behaviour, ...]
    algorithm: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    iterations: int | None = None

    @property
    def layout(self) -> Literal["none", "agents"]:
        """How the algorithm wants its data."""
        return "agents" if algorithm_spec(self.algorithm).requirements.layout == "agents" else "none"


@contextmanager
def work_folder(out: Path, name: str) -> Iterator[Path]:
    """A folder below `out / "work"` that is empty at first and is removed in the end.

    Logs are collected for each run anew, which takes a tenth of the training, and removed: runs then need no logs of each
    other, and a whole experiment leaves no gigabytes behind. Equal seeds give equal logs.
    """
    folder = out / "work" / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def collect_log(run: Run, folder: Path, *, seed: int, steps: int | None = None) -> None:
    """Write a log of the run's behaviours in its own environment."""
    collect(run.env, run.env_config, run.behaviours, steps or run.steps, folder, seed=seed, split=run.layout)


@contextmanager
def trained(
    run: Run,
    folder: Path,
    algo_class: "type[OfflineMultiAgentAlgorithm] | None" = None,
    watch: "Callable[[OfflineMultiAgentAlgorithm], None] | None" = None,
) -> "Iterator[OfflineMultiAgentAlgorithm]":
    """Train to the end on the log in `folder / "data"`, or online where the run has none.

    Args:
        run: What to do.
        folder: The run's working folder.
        algo_class: In place of the algorithm's own class.
        watch: Called after every iteration.
    """
    spec = algorithm_spec(run.algorithm)
    config = spec.new_config().environment(run.env, env_config=dict(run.env_config)).debugging(seed=run.train_seed)
    if run.steps:
        config.offline_data(input_=str((folder / "data").absolute()))
    config.training(**run.settings)
    config.set_output(folder.absolute())
    if algo_class is not None:
        config.algo_class = algo_class
    iterations = run.iterations or spec.iterations
    algorithm: OfflineMultiAgentAlgorithm = config.build_algo()
    try:
        while not algorithm.finished and (iterations is None or algorithm.iteration < iterations):
            algorithm.train()
            if watch is not None:
                watch(algorithm)
        yield algorithm
    finally:
        algorithm.stop()


def measure_policy(
    run: Run, policy: Path | str, params: Mapping[str, Any] | None = None, fields: Mapping[str, Any] | None = None
) -> Evaluation:
    """A policy by its path or name on the run's test seed.

    Args:
        run: Its environment and its test.
        policy: The policy.
        params: Its parameters.
        fields: Fields of the environment that differ in the test.
    """
    test = run.test
    return evaluate(
        policy,
        run.env,
        {**run.env_config, **(fields or {})},
        num_envs=test.copies,
        steps=test.steps,
        warmup_steps=test.warmup_steps,
        seed=run.test_seed,
        params=params,
    )


def metrics_of(env: str, statistics: Statistics) -> dict[str, float]:
    """The environment's metrics of pooled statistics."""
    return {m.name: m.reduce(statistics) for m in env_spec(env).metrics}
