"""Ray Tune's callback for Weights & Biases, with short names, policies as artifacts, and trials that go on as one run."""

import os
from pathlib import Path
from typing import Any

from ray.air.integrations.wandb import WandbLoggerCallback, _QueueItem, _WandbLoggingActor
from typing_extensions import override

from rllib_wireless.algorithms.run import plain
from rllib_wireless.errors import UserError
from rllib_wireless.tracking import PROJECT, WandbMode, card_hash, tracking_id
from rllib_wireless.tuning.search import SETTINGS, TRIAL
from rllib_wireless.tuning.settings import Sweep
from rllib_wireless.tuning.trial import Task, seed_folder, trial_name

_MEANS = "means/"


class LoggingActor(_WandbLoggingActor):  # type: ignore[misc]
    """The process that sends a trial's results."""

    @override
    def _handle_checkpoint(self, checkpoint_path: str) -> None:
        path = Path(checkpoint_path)
        artifact = self._wandb.Artifact(f"policy-{self._trial_name}-{path.parent.name}", type="policy")
        artifact.add_dir(checkpoint_path)
        self._wandb.log_artifact(artifact)

    @override
    def _handle_result(self, result: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        log, config = super()._handle_result(result)
        log = {name.removeprefix(_MEANS): value for name, value in log.items()}
        # Ray Tune counts results since the trial's process began.
        return {**log, "training_iteration": result.get("iteration")}, config


class SweepWandbCallback(WandbLoggerCallback):  # type: ignore[misc]
    """A run for each trial, in the group of the sweep.

    Args:
        sweep: The sweep.
        task: What its trials have in common.
        out: The sweep's folder; what is written locally goes to `wandb/` in it.
        mode: Whether runs are sent at once.
    """

    _logger_actor_cls = LoggingActor

    def __init__(self, sweep: Sweep, task: Task, out: Path, mode: WandbMode) -> None:
        super().__init__(project=os.environ.get("WANDB_PROJECT", PROJECT), group=out.name, dir=str(out), mode=mode)
        self._task, self._out, self._mode = task, out, mode
        self._asked = {**plain(vars(sweep)), "data_sha256": card_hash(sweep.data)}

    @override
    def setup(self, *args: Any, **kwargs: Any) -> None:
        if self._mode == "offline":
            os.environ["WANDB_MODE"] = "offline"  # else Ray asks for a key
        try:
            super().setup(*args, **kwargs)
        except ValueError as error:
            raise UserError(f"Weights & Biases: {error}; --wandb offline needs no account") from None

    @override
    def _start_logging_actor(self, trial: Any, exclude_results: list[str], **init: Any) -> None:
        name = trial_name(trial.config[TRIAL])
        own = {
            "id": f"{tracking_id(self._out)}-{name}",
            "name": name,
            "resume": "allow" if self._mode == "online" else None,
            "config": {**self._asked, **plain(trial.config[SETTINGS])},
        }
        super()._start_logging_actor(trial, exclude_results, **{**init, **own})

    @override
    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        folder = self._task.folder_of(trial.config[TRIAL])
        for seed in self._task.seeds:
            policy = seed_folder(folder, seed) / "policy"
            if policy.is_dir():
                self._trial_queues[trial].put((_QueueItem.CHECKPOINT, str(policy)))
        super().log_trial_end(trial, failed)
