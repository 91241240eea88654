"""What a sweep was asked to do, as the content of its `settings.yaml`."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from rllib_wireless import __version__
from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.algorithms.run import plain, write_atomically
from rllib_wireless.envs import env_spec, make_env
from rllib_wireless.envs.registry import Metric
from rllib_wireless.errors import ConfigError, UserError
from rllib_wireless.tuning.spaces import Domain, parse_domain, space_of

if TYPE_CHECKING:
    from rllib_wireless.tuning.trial import Task

Scheduler = Literal["asha", "median", "none"]
Select = Literal["online", "offline"]

SETTINGS = "settings.yaml"

ESTIMATE = Metric(
    "estimate", "reward", "higher", lambda statistics: math.nan, "what a policy is worth, from logs alone"
)
"""The objective of `select="offline"`."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep was asked to do; the content of `settings.yaml`.

    Args:
        algorithm: Its name.
        env: The environment's name.
        env_config: Its configuration.
        data: The data set's folder.
        settings: Settings that are fixed.
        search: Domains in place of the declared ones, as `--search` takes them.
        iterations: Iterations of each training.
        seeds: Seeds that every configuration is trained with.
        seed: The first of them, and the seed of the search.
        select: Whether configurations are compared in the environment or by recorded data.
        select_data: The recorded data; the data set itself if not given.
        method: How `select="offline"` estimates.
        estimate_settings: Settings of that method.
        metrics: The objectives.
        every: Iterations between two measurements.
        scheduler: What ends trials that do badly.
        storage: URL of a database that holds the study.
    """

    algorithm: str
    env: str
    env_config: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    search: dict[str, str] = field(default_factory=dict)
    iterations: int | None = None
    seeds: int = 1
    seed: int = 0
    select: Select = "online"
    select_data: str | None = None
    method: str = "fqe"
    estimate_settings: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    every: int | None = None
    scheduler: Scheduler | None = None
    storage: str | None = None
    version: str = __version__

    def objectives(self) -> list[Metric]:
        """The objectives as metrics.

        Raises:
            UserError: At an unknown one.
        """
        spec = env_spec(self.env)
        if self.select == "offline":
            if self.metrics:
                raise UserError("--metric is for --select online; offline the objective is the estimate")
            return [ESTIMATE]
        known = {metric.name: metric for metric in spec.metrics}
        for name in self.metrics:
            if name not in known:
                raise UserError(f"{self.env} has no metric {name!r}; metrics are {', '.join(known)}")
        return [known[name] for name in dict.fromkeys(self.metrics or spec.objectives)]

    def space(self) -> dict[str, Domain]:
        """What is searched.

        Raises:
            UserError: At a domain that is wrong, or where nothing is left.
        """
        changes = {name: parse_domain(name, text) for name, text in self.search.items()}
        return space_of(algorithm_spec(self.algorithm), self.settings, changes)

    def interval(self) -> int | None:
        """Iterations between two measurements; only at the end if None, which is what estimates, dear as they are, do."""
        return self.every if self.every is not None or self.select == "offline" else 1

    def scheduling(self) -> Scheduler:
        """What ends trials that do badly: ASHA, unless there are several objectives or a single measurement.

        Raises:
            UserError: Where several objectives were to be compared before the end.
        """
        several = len(self.objectives()) > 1
        if several and self.scheduler not in (None, "none"):
            raise UserError(
                f"--scheduler {self.scheduler} compares one metric, but there are several: give one --metric"
            )
        return self.scheduler or ("none" if several or self.interval() is None else "asha")

    def evaluation(self) -> dict[str, Any]:
        """How policies are measured: in whole episodes where metrics need them, and as no result is measured."""
        if self.select == "offline":
            return {}
        episodes = make_env(self.env, 1, **self.env_config).default_episodes
        found: dict[str, Any] = {"evaluation_interval": self.interval()}
        if episodes is not None:
            found |= {"evaluation_duration_unit": "episodes", "evaluation_duration": episodes}
        if validation := dict(env_spec(self.env).validation):
            found["evaluation_env_config"] = validation
        return found

    def task(self, out: Path) -> "Task":
        """What its trials have in common."""
        from rllib_wireless.tuning.trial import Task

        return Task(
            algorithm=self.algorithm,
            env=self.env,
            env_config=self.env_config,
            data=self.data,
            settings={**self.evaluation(), **self.settings},
            seeds=tuple(range(self.seed, self.seed + self.seeds)),
            iterations=self.iterations,
            metrics=tuple(metric.name for metric in self.objectives()),
            select=self.select,
            select_data=self.select_data or self.data,
            method=self.method,
            estimate_settings=self.estimate_settings,
            every=self.interval(),
            folder=str(out / "trials"),
        )

    def check(self) -> None:
        """Check all that can be checked before a trial runs.

        Raises:
            UserError: At anything unknown or wrong.
        """
        for name, least in (("seeds", 1), ("iterations", 1), ("every", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError("tune", name, value, f"it should be at least {least}")
        if self.select == "offline" and (self.select_data or self.data) is None:
            raise UserError("--select offline needs data to estimate from: give --data or --select-data")
        self.space(), self.scheduling()
        self.task(Path()).run({}, self.seed).config(Path())

    def save(self, out: Path, trials: int) -> None:
        """Write it into the sweep's folder.

        Args:
            out: The folder.
            trials: Configurations in total.
        """
        content = {"trials": trials, **plain(asdict(self))}
        write_atomically(out / SETTINGS, yaml.safe_dump(content, sort_keys=False).encode())


def read_sweep(out: Path) -> tuple[Sweep, int]:
    """The sweep in a folder, and how many trials were asked for.

    Raises:
        UserError: Where there is none, or it is not what this version writes.
    """
    path = out / SETTINGS
    if not path.is_file():
        raise UserError(f"{out} holds no sweep: there is no {SETTINGS}")
    try:
        content = yaml.safe_load(path.read_text())
        trials = content.pop("trials")
        return Sweep(**{**content, "metrics": tuple(content["metrics"])}), trials
    except (TypeError, KeyError, AttributeError, yaml.YAMLError):
        raise UserError(f"{path} is not what this version writes") from None
