"""A training run in a folder, which goes on after a crash as if there had been none.

run.yaml          everything needed to run it again
progress.jsonl    a line per iteration
curves.png        metrics and losses against iterations, where the run is tracked
checkpoint/       RLlib's checkpoint of the newest iteration, in a folder of its number (trusted only: it is pickle)
policy/           the portable policy
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rllib_wireless import storage
from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.algorithms.run import PROGRESS, RUN, Run, append_line, plain, read_run, write_atomically
from rllib_wireless.errors import ConfigError, ProcessLost, UserError
from rllib_wireless.tracking import Tracker, WandbMode, card_hash, tracked

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig
    from rllib_wireless.algorithms.online import FineTuning

logger = logging.getLogger(__name__)

Row = dict[str, Any]
Progress = Callable[[Row, float | None], None]

_CHECKPOINTS, _POLICY, _CURVES = "checkpoint", "policy", "curves.png"

# What a result says about learning; the rest is clocks and addresses, in which no two runs are equal.
_RESULTS = ("phase", "learners", "federation", "evaluation")


def train(
    algorithm: str,
    env: str,
    *,
    out: Path | str,
    data: Path | str | None = None,
    env_config: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    iterations: int | None = None,
    resume: bool = False,
    max_failures: int = 0,
    online: Mapping[str, Any] | None = None,
    wandb: WandbMode = "off",
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> Row:
    """Train an algorithm in a folder.

    Every iteration ends with a line of progress and a checkpoint. A run that was killed at any moment and is resumed gives
    the same progress and the same policy, bit for bit, as one that was not.

    Args:
        algorithm: Its name.
        env: The environment's name.
        out: The folder.
        data: The data set's folder or URI, where the algorithm needs one.
        env_config: The environment's configuration.
        settings: The algorithm's hyper-parameters, and `RUN_FIELDS`.
        seed: Seed of everything.
        iterations: How many; where not given, the algorithm's own default or end.
        resume: Go on with the run in the folder, or begin it where there is none; it must be the same run.
        max_failures: How often the run goes back to its newest checkpoint after it lost a process that it cannot replace,
            as when a node of the cluster dies, before it ends.
        online: `policy`, the folder of a portable policy that goes on learning online, and fields of `online.OnlineSettings`.
            An iteration is then a deployment, and `iterations` are those of each candidate.
        wandb: Whether to log with Weights & Biases.
        tensorboard: Whether to log for TensorBoard, in `tensorboard/` of the folder.
        progress: Called after each iteration with its line and the share that is done, if known.

    Returns:
        The last line of progress.

    Raises:
        UserError: At anything unknown or wrong, or where the folder holds a run and `resume` is not set.
        ProcessLost: After more than `max_failures` of them.
    """
    spec = algorithm_spec(algorithm)
    out = Path(out).absolute()
    run = Run(
        algorithm,
        env,
        dict(env_config or {}),
        None if data is None else storage.absolute(data),
        dict(settings or {}),
        seed,
        online=None if online is None else {**online, "policy": storage.absolute(online["policy"])},
    )
    config = run.config(out)
    end = spec.iterations if iterations is None else iterations
    if end is not None and end < 1:
        raise ConfigError(algorithm, "iterations", end, "it should be at least 1")

    def attempt() -> list[Row]:
        with _opened(run, config, out, end) as training, _tracker(run, out, training, wandb, tensorboard) as tracker:
            while not training.finished:
                row = training.step()
                tracker.log(row, row["iteration"])
                if progress is not None:
                    progress(row, training.share_done)
            return training.rows

    with _folder_of(run, out, resume), _ray_for(config):
        rows = _survive(attempt, max_failures)
        if not rows:
            raise UserError(f"{out}: nothing to do, no iteration has been run")
        return rows[-1]


def _survive(attempt: Callable[[], list[Row]], max_failures: int) -> list[Row]:
    """Try again after losses, each time from the newest checkpoint."""
    for failure in range(1, max_failures + 1):
        try:
            return attempt()
        except ProcessLost as error:
            logger.warning(
                "failure %d of %d allowed, going on from the last checkpoint: %s", failure, max_failures, error
            )
    return attempt()


class Training:
    """A run in its folder, an iteration at a time.

    Args:
        algorithm: What learns; it goes on from the folder's newest checkpoint.
        out: The folder.
        end: After how many iterations it ends; where the algorithm does if None.

    Attributes:
        rows: Lines of progress of the iterations so far.
    """

    def __init__(self, algorithm: "OfflineMultiAgentAlgorithm", out: Path, end: int | None) -> None:
        self.algorithm, self._out, self._end = algorithm, out, end
        _restore(algorithm, out)
        self.rows = _read_progress(out, algorithm.iteration)

    @property
    def finished(self) -> bool:
        """Whether all is done."""
        return self.algorithm.finished or (self._end is not None and self.algorithm.iteration >= self._end)

    @property
    def share_done(self) -> float | None:
        """Share of the iterations that are done, if that is known."""
        return self.algorithm.share_done if self._end is None else self.algorithm.iteration / self._end

    def step(self) -> Row:
        """Run an iteration, and write its line of progress, a checkpoint and the policy.

        Returns:
            The line.

        Raises:
            ProcessLost: Where a process is gone that the algorithm cannot replace.
        """
        try:
            row = _row(self.algorithm.train())
            append_line(self._out, row)
            _save(self.algorithm, self._out)
        except Exception as error:
            if isinstance(error, UserError) or self.algorithm.is_whole():
                raise
            raise ProcessLost(f"a process was lost after iteration {len(self.rows)}: {error!r}") from error
        self.rows.append(row)
        return row


@contextmanager
def _opened(
    run: Run, config: "OfflineMultiAgentConfig", out: Path, end: int | None
) -> "Iterator[Training | FineTuning]":
    """What a run does next."""
    if run.online is None:
        with training_of(config, out, end) as training:
            yield training
        return
    from rllib_wireless.algorithms.online import FineTuning

    yield FineTuning(run, out, lambda candidate, folder: _train(candidate, folder, iterations=end, resume=True))


@contextmanager
def training_of(config: "OfflineMultiAgentConfig", out: Path, end: int | None) -> Iterator[Training]:
    """Begin or go on with a run; its actors end with the context.

    Args:
        config: What `Run.config` made.
        out: The run's folder, which exists.
        end: After how many iterations it ends; where the algorithm does if None.
    """
    from ray.exceptions import RayActorError

    try:
        algorithm = config.build_algo()
    except RayActorError as error:
        raise ProcessLost(f"a process was lost at the beginning: {error}") from error
    try:
        yield Training(algorithm, out, end)
    finally:
        algorithm.stop()


def resume_run(out: Path | str, **arguments: Any) -> Row:
    """Go on with the run in a folder, told by its `run.yaml` alone.

    Args:
        out: The folder.
        **arguments: `iterations`, `max_failures`, `wandb`, `tensorboard` and `progress` of `train`.

    Raises:
        UserError: Where the folder holds no run.
    """
    return _train(read_run(out), out, resume=True, **arguments)


def repeat_run(path: Path | str, out: Path | str, **arguments: Any) -> Row:
    """Do again in a folder what a `run.yaml` says, for example the best one of a sweep.

    Args:
        path: The file, or the folder that holds it.
        out: The folder.
        **arguments: `iterations`, `resume`, `wandb`, `tensorboard` and `progress` of `train`.

    Raises:
        UserError: Where there is no such file, or it is not what this version writes.
    """
    return _train(read_run(path), out, **arguments)


def _train(run: Run, out: Path | str, **arguments: Any) -> Row:
    given = {name: getattr(run, name) for name in ("data", "env_config", "settings", "seed", "online")}
    if arguments.get("iterations") is None:
        arguments["iterations"] = run.iterations
    return train(run.algorithm, run.env, out=out, **given, **arguments)


@contextmanager
def _folder_of(run: Run, out: Path, resume: bool) -> Iterator[None]:
    """The run's folder. A new one that fails before its first iteration ends is left as empty as it was."""
    is_empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    _open_folder(run, out, resume, is_empty)
    try:
        yield
    except Exception:
        if is_empty and not (out / PROGRESS).exists():
            shutil.rmtree(out)
        raise


def _open_folder(run: Run, out: Path, resume: bool, is_empty: bool) -> None:
    """Write `run.yaml` into a new folder, or check that the folder's run is this one."""
    if not (out / RUN).exists():
        if not (is_empty or resume):
            raise UserError(f"{out} exists and is not empty; give another output folder")
        out.mkdir(parents=True, exist_ok=True)
        run.save(out / RUN)
    elif not resume:
        raise UserError(f"{out} holds a run already: give --resume to go on with it, or another folder")
    else:
        before, now = plain(asdict(read_run(out))), plain(asdict(run))
        for name in ("algorithm", "env", "env_config", "data", "settings", "seed", "online"):
            if before[name] != now[name]:
                raise UserError(
                    f"{out} holds a run with {name} = {before[name]}, not {now[name]}: it cannot go on as such"
                )
    for leftover in [*out.glob(f".{_POLICY}.*"), *out.glob(f"{_CHECKPOINTS}/.*")]:
        shutil.rmtree(leftover)


def _restore(algo: "OfflineMultiAgentAlgorithm", out: Path) -> None:
    """Go back to the newest checkpoint, if there is one."""
    numbers = sorted((int(p.name) for p in (out / _CHECKPOINTS).glob("[0-9]*")), reverse=True)
    if numbers:
        algo.restore_from_path(out / _CHECKPOINTS / str(numbers[0]))


def _save(algo: "OfflineMultiAgentAlgorithm", out: Path) -> None:
    """Write a checkpoint that is either whole or not there, then remove older ones and export the policy."""
    folder = out / _CHECKPOINTS
    unfinished = folder / f".{algo.iteration}"
    algo.save_to_path(unfinished)
    unfinished.rename(folder / str(algo.iteration))
    for older in folder.glob("[0-9]*"):
        if int(older.name) < algo.iteration:
            shutil.rmtree(older)
    if algo.policy() is not None:
        algo.export_policy(out / _POLICY)


def _row(result: Mapping[str, Any]) -> Row:
    """The line of progress of an iteration."""
    kept = {name: plain(result[name]) for name in _RESULTS if name in result}
    return {"iteration": result["training_iteration"], **kept}


def _read_progress(out: Path, iteration: int) -> list[Row]:
    """The lines up to an iteration; later ones, whose checkpoint was not finished, are removed."""
    path = out / PROGRESS
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    # The last line may be half written; only those of finished checkpoints are looked at, and they are whole.
    kept = lines[:iteration]
    if len(kept) < len(lines):
        write_atomically(path, b"".join(kept))
    return [orjson.loads(line) for line in kept]


@contextmanager
def _ray_for(config: "OfflineMultiAgentConfig") -> Iterator[None]:
    """Start Ray with room for all actors where there are any, unless the caller has done so."""
    from rllib_wireless.algorithms.actors import ray_with

    # RLlib builds a class of its own that it calls deprecated, and says so at every RLModule.
    logging.getLogger("ray._common.deprecation").setLevel(logging.ERROR)
    bundles = config.algo_class.default_resource_request(config).bundles
    with ray_with(sum(bundle.get("CPU", 0) for bundle in bundles)) if len(bundles) > 1 else nullcontext():
        yield


@contextmanager
def _tracker(
    run: Run, out: Path, training: "Training | FineTuning", wandb: WandbMode, tensorboard: bool
) -> Iterator[Tracker]:
    """Follow a run; at its end with a figure of its curves, and its policy."""
    config = {**plain(asdict(run)), "data_sha256": card_hash(run.data)}
    first = len(training.rows) + 1
    with tracked(out, config, wandb=wandb, tensorboard=tensorboard, first=first) as tracker:
        yield tracker
        if (wandb != "off" or tensorboard) and len(training.rows) >= first:
            from rllib_wireless.algorithms.curves import draw_curves

            draw_curves(training.rows, run.env, out / _CURVES)
            tracker.figure("curves", out / _CURVES)
            if (out / _POLICY).is_dir():
                tracker.artifact(f"policy-{out.name}", "policy", out / _POLICY)
