"""A trial of a sweep: one configuration, trained with several seeds in lock step."""

import math
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS
from ray.tune import PlacementGroupFactory, Trainable
from typing_extensions import override

from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.algorithms.run import RUN, Run, append_line, plain, read_lines
from rllib_wireless.algorithms.training import Row, Training, training_of
from rllib_wireless.errors import ProcessLost, UserError
from rllib_wireless.tracking import numbers
from rllib_wireless.tuning.search import ERROR, SETTINGS, TRIAL

if TYPE_CHECKING:
    from rllib_wireless.tuning.offline import Method

Select = Literal["online", "offline"]

"""A trial's results, a line each, in its folder."""

ERRORS = "error.txt"
"""The traceback of a trial that failed, in its folder."""

_TIMED_METHODS = {"training_step": "train", "evaluate": "evaluate"}
_TIMED = tuple(_TIMED_METHODS.values())
_TOLD = ("learners", "federation", "evaluation")


@dataclass(frozen=True)
class Task:
    """What all trials of a sweep have in common.

    Args:
        algorithm: Its name.
        env: The environment's name.
        env_config: Its configuration.
        data: The data set's folder, if there is one.
        settings: Settings that are not searched; those of the evaluations among them.
        seeds: Seeds that every configuration is trained with.
        iterations: How many; where the algorithm ends if None.
        metrics: The objectives, by name.
        select: Whether these are measured in the environment, or estimated from recorded data.
        select_data: What they are estimated from.
        method: How they are estimated.
        estimate_settings: Settings of that method.
        every: Iterations between two measurements; only at the end if None.
        folder: Where trials have their folders.
    """

    algorithm: str
    env: str
    env_config: Mapping[str, Any]
    data: str | None
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    iterations: int | None
    metrics: tuple[str, ...]
    select: Select
    select_data: str | None
    method: str
    estimate_settings: Mapping[str, Any]
    every: int | None
    folder: str

    @property
    def end(self) -> int | None:
        """After how many iterations a training ends; where the algorithm does if None."""
        return self.iterations if self.iterations is not None else algorithm_spec(self.algorithm).iterations

    def run(self, settings: Mapping[str, Any], seed: int) -> Run:
        """One training: what `train` would do with these settings."""
        return Run(
            self.algorithm, self.env, dict(self.env_config), self.data, {**self.settings, **settings}, seed,
            iterations=self.iterations,
        )  # fmt: skip

    def folder_of(self, number: int) -> Path:
        """A trial's folder."""
        return Path(self.folder) / trial_name(number)

    def resources(self) -> PlacementGroupFactory:
        """What a trial needs: its own process, and the actors of all its seeds."""
        config = self.run({}, self.seeds[0]).config(self.folder_of(0))
        request = config.algo_class.default_resource_request(config)
        main, *actors = request.bundles
        return PlacementGroupFactory([main, *(actors * len(self.seeds))], strategy=request.strategy)


def trial_name(number: int) -> str:
    """What a trial is called."""
    return f"t{number:04d}"


def seed_folder(folder: Path, seed: int) -> Path:
    """Where the training with a seed lives in a trial's folder."""
    return folder / f"seed_{seed}"


class Trial(Trainable):  # type: ignore[misc]
    """Trains K algorithms in lock step, and reports the mean of what was measured.

    Each training has a folder like those of `train`, so that a trial goes on from there wherever its process was lost. One step is
    as many iterations as there are from one evaluation to the next. A trial that fails says so in its result instead of ending its
    process, which the next trial then uses.
    """

    @override
    def setup(self, config: dict[str, Any], task: Task) -> None:
        self._task = task
        self._stack = ExitStack()
        self._begin(config)

    @override
    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._stack.close()
        self._begin(new_config)
        return True

    @override
    def step(self) -> dict[str, Any]:
        if self._lines and self._lines[-1]["finished"]:  # its process was lost just before it could say so
            return {**self._lines[-1], "seconds": dict.fromkeys((*_TIMED, "step"), 0.0), "done": True}
        try:
            if not self._trainings:
                self._open()
            return self._result()
        except ProcessLost:
            raise  # Ray Tune begins the trial anew, which goes on from its folder
        except Exception as error:
            (self._folder / ERRORS).write_text(traceback.format_exc())
            words = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            return {ERROR: _shortened(" ".join(words.split())), "done": True}

    @override
    def cleanup(self) -> None:
        self._stack.close()

    def _begin(self, config: Mapping[str, Any]) -> None:
        self._folder = self._task.folder_of(config[TRIAL])
        self._settings = config[SETTINGS]
        self._stack = ExitStack()
        self._trainings: dict[int, Training] = {}
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lines = read_lines(self._folder)
        self._seconds = dict.fromkeys(_TIMED, 0.0)

    def _open(self) -> None:
        """Build what learns; of a trial that was interrupted, as it was."""
        task = self._task
        for seed in task.seeds:
            run, out = task.run(self._settings, seed), seed_folder(self._folder, seed)
            config = run.config(out)
            out.mkdir(parents=True, exist_ok=True)
            run.save(out / RUN)
            training = self._stack.enter_context(training_of(config, out, task.end))
            for method, name in _TIMED_METHODS.items():
                function = getattr(training.algorithm, method)
                setattr(training.algorithm, method, _timing(lambda: self._seconds, name, function))
            self._trainings[seed] = training

    def _result(self) -> dict[str, Any]:
        begin = time.monotonic()
        rows = {seed: self._until_measured(seed, training) for seed, training in self._trainings.items()}
        values = {
            metric: [self._value(seed, row, metric) for seed, row in rows.items()] for metric in self._task.metrics
        }
        finished = all(training.finished for training in self._trainings.values())
        result = {
            "iteration": max(row["iteration"] for row in rows.values()),
            "finished": finished,
            **{metric: statistics.fmean(found) for metric, found in values.items()},
            "seeds": values,
            "means": _means(rows.values()),
            "seconds": {**self._seconds, "step": time.monotonic() - begin},
        }
        self._lines.append(result)
        append_line(self._folder, result)
        self._seconds = dict.fromkeys(_TIMED, 0.0)
        return {**result, "done": finished}

    def _until_measured(self, seed: int, training: Training) -> Row:
        """Go on to the next measurement, or to the end. A process that was lost may have left one seed ahead of the others."""
        told = self._lines[-1]["iteration"] if self._lines else 0
        for row in training.rows:
            if row["iteration"] > told and self._is_measured(seed, row):
                return row
        while not training.finished:
            row = training.step()
            if self._is_measured(seed, row):
                return row
        if not training.rows:
            raise UserError("there is nothing to train")
        row = training.rows[-1]
        if self._task.select == "online" and not _evaluation(row):
            return {**row, "evaluation": plain(training.algorithm.evaluate())}
        return row

    def _is_measured(self, seed: int, row: Row) -> bool:
        """Whether a measurement is due and there is a policy to measure."""
        every = self._task.every
        if every is None or row["iteration"] % every:
            return False
        if self._task.select == "online":
            return bool(_evaluation(row))
        return (seed_folder(self._folder, seed) / "policy").is_dir()

    def _value(self, seed: int, row: Row, metric: str) -> float:
        if self._task.select == "online":
            value = _evaluation(row).get(metric)
        else:
            with _timed(self._seconds, "evaluate"):
                value = self._estimate(seed)
        if value is None or not math.isfinite(value):
            raise UserError(f"{metric} is not a number after iteration {row['iteration']} with seed {seed}")
        return float(value)

    def _estimate(self, seed: int) -> float:
        from rllib_wireless.tuning import estimate

        task = self._task
        assert task.select_data is not None
        policy, method = seed_folder(self._folder, seed) / "policy", cast("Method", task.method)
        # One seed for all, so that trials are compared under the same random numbers.
        return estimate(policy, task.select_data, method=method, seed=0, **task.estimate_settings).value


def _shortened(words: str) -> str:
    """A message without its middle, if it is long: databases limit what they hold, and what is wrong often stands at the end."""
    return words if len(words) <= 600 else f"{words[:200]} ... {words[-395:]}"


def _means(rows: Iterable[Row]) -> dict[str, float]:
    """What the seeds' lines of progress tell, on average."""
    told = [numbers({key: row[key] for key in _TOLD if key in row}) for row in rows]
    return {
        name: statistics.fmean(t[name] for t in told if name in t) for name in dict.fromkeys(n for t in told for n in t)
    }


def _evaluation(row: Row) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (row.get("evaluation") or {}).get(ENV_RUNNER_RESULTS) or {}
    return found


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.monotonic()
    try:
        yield
    finally:
        seconds[name] += time.monotonic() - begin


def _timing(seconds: Callable[[], dict[str, float]], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that adds what it takes to `seconds()[name]`."""

    def timed(*args: Any, **kwargs: Any) -> Any:
        with _timed(seconds(), name):
            return function(*args, **kwargs)

    return timed
