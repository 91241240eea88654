"""Runs that others can follow: Weights & Biases and TensorBoard, beside the lines of JSON that every run writes.

Offline, Weights & Biases writes below `wandb/` of the run's folder, and `wandb sync` sends it later. TensorBoard's events are in
`tensorboard/`. A run that goes on after a crash goes on in both as one.
"""

import hashlib
import math
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from rllib_wireless.errors import UserError

WandbMode = Literal["off", "offline", "online"]
Row = Mapping[str, Any]

PROJECT = "rllib-wireless"
"""The project of Weights & Biases, unless the environment variable WANDB_PROJECT names another."""

_CARD = "card.yaml"


class Tracker:
    """Where a run is followed. The base class does nothing, which is what a run without tracking needs."""

    def log(self, row: Row, step: int) -> None:
        """Write a row of progress.

        Args:
            row: Numbers, in dictionaries of any depth; what is none or not finite is left out.
            step: The iteration.
        """

    def figure(self, name: str, path: Path) -> None:
        """Show a figure.

        Args:
            name: What it is called.
            path: The PNG.
        """

    def artifact(self, name: str, kind: str, path: Path) -> None:
        """Keep a file or folder with the run.

        Args:
            name: What it is called.
            kind: What it is, for example `policy`.
            path: Where it is.
        """

    def finish(self) -> None:
        """Write what is left to write."""


class WandbTracker(Tracker):
    """A run of Weights & Biases.

    Args:
        folder: What is written locally goes to `wandb/` in it, and the run's ID with it, so that a later tracker of this folder
            goes on with the same run.
        name: The run's name.
        mode: Whether it is sent at once.
        config: What the run was asked to do.
        **init: Further arguments of `wandb.init`, for example `group`.

    Raises:
        UserError: Where it cannot be sent, for example because nobody is logged in.
    """

    def __init__(
        self, folder: Path, name: str, mode: Literal["offline", "online"], config: Mapping[str, Any], **init: Any
    ) -> None:
        import wandb

        self._wandb = wandb
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=name,
                dir=str(folder),
                mode=mode,
                config=dict(config),
                id=tracking_id(folder),
                resume="allow" if mode == "online" else None,
                settings=wandb.Settings(silent=True),
                **init,
            )
        except wandb.Error as error:
            raise UserError(f"Weights & Biases: {error}; --wandb offline needs no account") from None

    def log(self, row: Row, step: int) -> None:
        self._run.log(numbers(row), step=step)

    def figure(self, name: str, path: Path) -> None:
        self._run.log({f"figures/{name}": self._wandb.Image(str(path))})

    def artifact(self, name: str, kind: str, path: Path) -> None:
        artifact = self._wandb.Artifact(name, type=kind)
        (artifact.add_dir if path.is_dir() else artifact.add_file)(str(path))
        self._run.log_artifact(artifact)

    def finish(self) -> None:
        self._run.finish()


class TensorBoardTracker(Tracker):
    """Events of TensorBoard, in a folder.

    Args:
        folder: Where to.
        first: The first iteration that is written; what a killed run wrote beyond is no longer shown.
        config: What the run was asked to do, shown as text.
    """

    def __init__(self, folder: Path, first: int, config: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

        self._writer = SummaryWriter(str(folder), purge_step=first)
        if first == 1:
            lines = "\n".join(f"| {name} | {value} |" for name, value in flat(config).items())
            self._writer.add_text("config", f"| setting | value |\n|---|---|\n{lines}", 0)
        self._last = first

    def log(self, row: Row, step: int) -> None:
        self._last = step
        for name, value in numbers(row).items():
            self._writer.add_scalar(name, value, step)

    def figure(self, name: str, path: Path) -> None:
        from matplotlib import image

        self._writer.add_image(name, image.imread(path)[..., :3], self._last, dataformats="HWC")

    def finish(self) -> None:
        self._writer.close()


class _All(Tracker):
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def log(self, row: Row, step: int) -> None:
        for tracker in self._trackers:
            tracker.log(row, step)

    def figure(self, name: str, path: Path) -> None:
        for tracker in self._trackers:
            tracker.figure(name, path)

    def artifact(self, name: str, kind: str, path: Path) -> None:
        for tracker in self._trackers:
            tracker.artifact(name, kind, path)


@contextmanager
def tracked(
    folder: Path,
    config: Mapping[str, Any],
    *,
    wandb: WandbMode = "off",
    tensorboard: bool = False,
    first: int = 1,
    **init: Any,
) -> Iterator[Tracker]:
    """Follow a run in its folder.

    Args:
        folder: The run's folder; its name is the run's.
        config: What the run was asked to do.
        wandb: Whether Weights & Biases follows it.
        tensorboard: Whether TensorBoard does.
        first: The first iteration that will be logged.
        **init: Further arguments of `wandb.init`.

    Yields:
        What to log to.

    Raises:
        UserError: Where Weights & Biases is to be online and cannot.
    """
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        if tensorboard:
            trackers.append(TensorBoardTracker(folder / "tensorboard", first, config))
            stack.callback(trackers[-1].finish)
        if wandb != "off":
            trackers.append(WandbTracker(folder, folder.name, wandb, config, **init))
            stack.callback(trackers[-1].finish)
        yield _All(trackers)


def tracking_id(folder: Path) -> str:
    """The ID of a folder's run, drawn once."""
    path = folder / "wandb" / "id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".id.{os.getpid()}")
        temporary.write_text(uuid.uuid4().hex[:12])
        temporary.replace(path)
    return path.read_text()


def card_hash(data: Path | str | None) -> str | None:
    """What tells one data set from another: a hash of its card, which holds the hashes of its files.

    Args:
        data: The folder; of one with a folder per agent, all their cards count.

    Returns:
        sha256; None where there is no card.
    """
    cards = sorted(Path(data).rglob(_CARD)) if data is not None else []
    digest = hashlib.sha256()
    for card in cards:
        digest.update(card.relative_to(str(data)).as_posix().encode() + b"\0" + card.read_bytes())
    return digest.hexdigest() if cards else None


def flat(row: Row, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, whose names are joined by slashes."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        found.update(flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return found


def numbers(row: Row) -> dict[str, float]:
    """The finite numbers of a row, flat."""
    return {
        name: float(value)
        for name, value in flat(row).items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
