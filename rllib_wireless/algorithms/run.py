"""What a run was asked to do, as the content of its `run.yaml`."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from rllib_wireless import __version__
from rllib_wireless.algorithms.registry import algorithm_spec
from rllib_wireless.errors import UserError

if TYPE_CHECKING:
    from rllib_wireless.algorithms.base import OfflineMultiAgentConfig

RUN, PROGRESS = "run.yaml", "progress.jsonl"

RUN_FIELDS = (
    "evaluation_interval",
    "evaluation_duration",
    "evaluation_duration_unit",
    "evaluation_num_env_runners",
    "evaluation_env_config",
    "num_envs_per_env_runner",
    "num_learners",
)
"""Fields that `settings` may hold beside the algorithm's: RLlib's own, and fields of the environment that differ in evaluations."""


@dataclass(frozen=True)
class Run:
    """What is run; the content of `run.yaml`.

    Args:
        algorithm: Its name.
        env: The environment's name.
        env_config: The environment's configuration.
        data: Folder or URI of the data set, where there is one.
        settings: The algorithm's hyper-parameters, and `RUN_FIELDS`.
        seed: Seed of everything.
        version: Of this package.
        iterations: How many; the algorithm's own default or end where not given.
        online: Where a policy goes on learning online: its folder, `policy`, and fields of `OnlineSettings`.
    """

    algorithm: str
    env: str
    env_config: dict[str, Any]
    data: str | None
    settings: dict[str, Any]
    seed: int
    version: str = __version__
    iterations: int | None = None
    online: dict[str, Any] | None = None

    def config(self, out: Path) -> "OfflineMultiAgentConfig":
        """The configuration that it stands for.

        Raises:
            UserError: At anything unknown or wrong.
        """
        config = algorithm_spec(self.algorithm).new_config()
        config.environment(self.env, env_config=self.env_config).debugging(seed=self.seed)
        # Online there may be no data yet; what is learned from comes to lie below the run's folder.
        data = str(out) if self.data is None and self.online is not None else self.data
        if data is not None:
            config.offline_data(input_=data)
        for name, value in self.settings.items():
            if name == "evaluation_env_config":
                config.evaluation(evaluation_config={"env_config": value})
            elif name in RUN_FIELDS:
                setattr(config, name, value)
            else:
                config.training(**{name: value})
        if self.online is not None and config.caution() is None:
            raise UserError(
                f"{self.algorithm} with these settings has nothing that holds its policies to the data, so nothing to relax "
                "online; ctde_cql and fedmorl with policy_learning planner or rollout have"
            )
        config.set_output(out)
        config.validate()
        return config

    def save(self, path: Path) -> None:
        """Write it as `run.yaml`, whole or not at all."""
        content = plain(asdict(self))
        for name in ("iterations", "online"):
            if content[name] is None:
                del content[name]
        write_atomically(path, yaml.safe_dump(content, sort_keys=False).encode())


def read_run(path: Path | str) -> Run:
    """What a `run.yaml` says.

    Args:
        path: The file, or the folder that holds it.

    Raises:
        UserError: Where there is none, or it is not what this version writes.
    """
    path = Path(path)
    file = path / RUN if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{path} holds no run: there is no {RUN}")
    try:
        return Run(**yaml.safe_load(file.read_text()))
    except (TypeError, yaml.YAMLError):
        raise UserError(f"{file} is not what this version writes") from None


def append_line(folder: Path, row: Mapping[str, Any]) -> None:
    """Add a line to the progress in a folder; it is on the disk when this returns."""
    with (folder / PROGRESS).open("ab") as file:
        file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SORT_KEYS))
        file.flush()
        os.fsync(file.fileno())


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of progress in a folder, none where there is no such file; of a line that is not finished nothing."""
    path = folder / PROGRESS
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [orjson.loads(line) for line in lines if line.endswith(b"\n")]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def plain(value: Any) -> Any:
    """Numbers of NumPy and tuples as what JSON and YAML can hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
