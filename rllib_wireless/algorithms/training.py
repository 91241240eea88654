"""A training run in a folder, which goes on after a crash as if there had been none.

run.yaml          everything needed to run it again
progress.jsonl    a line per iteration
checkpoint/       RLlib's checkpoint of the newest iteration, in a folder of its number (trusted only: it is pickle)
policy/           the portable policy
"""

import logging
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
import yaml

from rllib_wireless import __version__
from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.errors import ConfigError, UserError

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentAlgorithm, OfflineMultiAgentConfig

WandbMode = Literal["off", "offline", "online"]
Row = dict[str, Any]
Progress = Callable[[Row, float | None], None]

_RUN, _PROGRESS, _CHECKPOINTS, _POLICY = "run.yaml", "progress.jsonl", "checkpoint", "policy"

# What a result says about learning; the rest is clocks and addresses, in which no two runs are equal.
_RESULTS = ("phase", "learners", "federation", "evaluation")

RUN_FIELDS = (
    "evaluation_interval",
    "evaluation_duration",
    "evaluation_duration_unit",
    "evaluation_num_env_runners",
    "num_envs_per_env_runner",
    "num_learners",
)
"""RLlib's own fields that `settings` may hold beside the algorithm's."""


@dataclass(frozen=True)
class Run:
    """What is run; the content of `run.yaml`."""

    algorithm: str
    env: str
    env_config: dict[str, Any]
    data: str | None
    settings: dict[str, Any]
    seed: int
    version: str = __version__

    def config(self, out: Path) -> "OfflineMultiAgentConfig":
        """The configuration that it stands for.

        Raises:
            UserError: At anything unknown or wrong.
        """
        config = algorithm_spec(self.algorithm).new_config()
        config.environment(self.env, env_config=self.env_config).debugging(seed=self.seed)
        if self.data is not None:
            config.offline_data(input_=self.data)
        for name, value in self.settings.items():
            if name in RUN_FIELDS:
                setattr(config, name, value)
            else:
                config.training(**{name: value})
        config.set_output(out)
        config.validate()
        return config


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
    wandb: WandbMode = "off",
    progress: Progress | None = None,
) -> Row:
    """Train an algorithm in a folder.

    Every iteration ends with a line of progress and a checkpoint. A run that was killed at any moment and is resumed gives
    the same progress and the same policy, bit for bit, as one that was not.

    Args:
        algorithm: Its name.
        env: The environment's name.
        out: The folder.
        data: The data set's folder, where the algorithm needs one.
        env_config: The environment's configuration.
        settings: The algorithm's hyper-parameters, and `RUN_FIELDS`.
        seed: Seed of everything.
        iterations: How many; where not given, the algorithm's own default or end.
        resume: Go on with the run in the folder, or begin it where there is none; it must be the same run.
        wandb: Whether to log with Weights & Biases.
        progress: Called after each iteration with its line and the share that is done, if known.

    Returns:
        The last line of progress.

    Raises:
        UserError: At anything unknown or wrong, or where the folder holds a run and `resume` is not set.
    """
    spec = algorithm_spec(algorithm)
    out = Path(out).absolute()
    run = Run(
        algorithm,
        env,
        dict(env_config or {}),
        None if data is None else str(Path(data).absolute()),
        dict(settings or {}),
        seed,
    )
    config = run.config(out)
    end = spec.iterations if iterations is None else iterations
    if end is not None and end < 1:
        raise ConfigError(algorithm, "iterations", end, "it should be at least 1")
    with _folder_of(run, out, resume), _ray_for(config), _tracker(run, out, wandb) as track:
        algo = config.build_algo()
        try:
            _restore(algo, out)
            rows = _read_progress(out, algo.iteration)
            while not algo.finished and (end is None or algo.iteration < end):
                row = _row(algo.train())
                _append(out / _PROGRESS, row)
                _save(algo, out)
                rows.append(row)
                track(row)
                if progress is not None:
                    progress(row, algo.share_done if end is None else algo.iteration / end)
            if not rows:
                raise UserError(f"{out}: nothing to do, no iteration has been run")
            return rows[-1]
        finally:
            algo.stop()


def resume_run(out: Path | str, **arguments: Any) -> Row:
    """Go on with the run in a folder, told by its `run.yaml` alone.

    Args:
        out: The folder.
        **arguments: `iterations`, `wandb` and `progress` of `train`.

    Raises:
        UserError: Where the folder holds no run.
    """
    run = _read_run(Path(out))
    given = {name: getattr(run, name) for name in ("data", "env_config", "settings", "seed")}
    return train(run.algorithm, run.env, out=out, resume=True, **given, **arguments)


@contextmanager
def _folder_of(run: Run, out: Path, resume: bool) -> Iterator[None]:
    """The run's folder. A new one that fails before its first iteration ends is left as empty as it was."""
    is_empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    _open_folder(run, out, resume, is_empty)
    try:
        yield
    except Exception:
        if is_empty and not (out / _PROGRESS).exists():
            shutil.rmtree(out)
        raise


def _open_folder(run: Run, out: Path, resume: bool, is_empty: bool) -> None:
    """Write `run.yaml` into a new folder, or check that the folder's run is this one."""
    if not (out / _RUN).exists():
        if not (is_empty or resume):
            raise UserError(f"{out} exists and is not empty; give another output folder")
        out.mkdir(parents=True, exist_ok=True)
        _write_atomically(out / _RUN, yaml.safe_dump(_plain(asdict(run)), sort_keys=False).encode())
    elif not resume:
        raise UserError(f"{out} holds a run already: give --resume to go on with it, or another folder")
    else:
        before, now = _plain(asdict(_read_run(out))), _plain(asdict(run))
        for name in ("algorithm", "env", "env_config", "data", "settings", "seed"):
            if before[name] != now[name]:
                raise UserError(
                    f"{out} holds a run with {name} = {before[name]}, not {now[name]}: it cannot go on as such"
                )
    for leftover in [*out.glob(f".{_POLICY}.*"), *out.glob(f"{_CHECKPOINTS}/.*")]:
        shutil.rmtree(leftover)


def _read_run(out: Path) -> Run:
    if not (out / _RUN).is_file():
        raise UserError(f"{out} holds no run: there is no {_RUN}")
    content = yaml.safe_load((out / _RUN).read_text())
    try:
        return Run(**content)
    except TypeError:
        raise UserError(f"{out / _RUN} is not what this version writes") from None


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
    kept = {name: _plain(result[name]) for name in _RESULTS if name in result}
    return {"iteration": result["training_iteration"], **kept}


def _read_progress(out: Path, iteration: int) -> list[Row]:
    """The lines up to an iteration; later ones, whose checkpoint was not finished, are removed."""
    path = out / _PROGRESS
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    # The last line may be half written; only those of finished checkpoints are looked at, and they are whole.
    kept = lines[:iteration]
    if len(kept) < len(lines):
        _write_atomically(path, b"".join(kept))
    return [orjson.loads(line) for line in kept]


def _append(path: Path, row: Row) -> None:
    with path.open("ab") as file:
        file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS))
        file.flush()
        os.fsync(file.fileno())


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _plain(value: Any) -> Any:
    """Numbers of NumPy and tuples as what JSON and YAML can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _ray_for(config: "OfflineMultiAgentConfig") -> Iterator[None]:
    """Start Ray with room for all actors where there are any, unless the caller has done so."""
    import ray

    # RLlib builds a class of its own that it calls deprecated, and says so at every RLModule.
    logging.getLogger("ray._common.deprecation").setLevel(logging.ERROR)
    bundles = config.algo_class.default_resource_request(config).bundles
    if len(bundles) == 1 or ray.is_initialized():
        yield
        return
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    else:
        cpus = max(os.cpu_count() or 1, math.ceil(sum(bundle.get("CPU", 0) for bundle in bundles)))
        ray.init("local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _tracker(run: Run, out: Path, mode: WandbMode) -> Iterator[Callable[[Row], None]]:
    """Log lines of progress with Weights & Biases, a resumed run as one with its beginning."""
    if mode == "off":
        yield lambda row: None
        return
    import wandb

    tracked = wandb.init(
        project="rllib-wireless",
        name=out.name,
        dir=str(out),
        mode=mode,
        config=_plain(asdict(run)),
        id=_tracking_id(out),
        resume="allow" if mode == "online" else None,
        settings=wandb.Settings(silent=True),
    )
    try:
        yield lambda row: tracked.log(_flat(row), step=row["iteration"])
    finally:
        tracked.finish()


def _tracking_id(out: Path) -> str:
    """The run's own ID, drawn once, under which a resumed run goes on."""
    path = out / "wandb" / "id"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        _write_atomically(path, uuid.uuid4().hex[:12].encode())
    return path.read_text()


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat.update(_flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {prefix + name: value})
    return flat
