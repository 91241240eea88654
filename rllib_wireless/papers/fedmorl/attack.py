"""A client whose model updates are poisoned, and what the server makes of them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from rllib_wireless.algorithms.fedmorl.client import ClientUpdate
from rllib_wireless.algorithms.fedmorl.federation import Federation
from rllib_wireless.algorithms.fedmorl.fedmorl import FedMORL
from rllib_wireless.envs import BatchedEnv
from rllib_wireless.papers.experiment import Json, Progress
from rllib_wireless.papers.fedmorl.learning import Run, learn

STRENGTH = 10.0
"""The poisoned client sends the global model minus this times what it learned: at equal weights one of eight turns FedAvg's
step round, 7 / 8 - 10 / 8 < 0."""


def poison(update: ClientUpdate, incoming: dict[str, Any]) -> ClientUpdate:
    """What the poisoned client sends, instead of what it learned from the incoming global model."""
    turned = {
        name: (incoming[name] - STRENGTH * (value - incoming[name])).astype(np.float32)
        for name, value in update.weights.items()
    }
    return dataclasses.replace(update, weights=turned)


class PoisonedFederation:
    """A federation with one client that does not do what it should; all else is passed on.

    The sums that it sends before the first round are honest: this attack is on what the server averages in every round.
    """

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._attacker = federation.clients[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._federation, name)

    def ask(self, method: str, *args: Any, **arguments: Any) -> dict[str, Any]:
        """As the federation's, but for the attacker's model."""
        answers = self._federation.ask(method, *args, **arguments)
        if method == "train_model" and self._attacker in answers:
            answers[self._attacker] = poison(answers[self._attacker], arguments["weights"])
        return answers


class PoisonedFedMORL(FedMORL):
    """FedMORL with one poisoned client."""

    def prepare(self, env: BatchedEnv) -> None:
        super().prepare(env)
        self.server.federation = PoisonedFederation(self.federation)  # type: ignore[assignment]


def learn_under_attack(run: Run, out: Path, progress: Progress) -> Json:
    """`learn` with one poisoned client, and judge the model."""
    return learn(run, out, progress, judge=True, algo_class=PoisonedFedMORL)
