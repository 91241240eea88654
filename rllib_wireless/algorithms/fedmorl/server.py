"""The server of a federation: whom it asks in a round, what it refuses, how it merges the rest, and what it tells of it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rllib_wireless.algorithms.fedmorl import privacy
from rllib_wireless.algorithms.fedmorl.aggregation import (
    aggregate,
    check_number,
    client_weights,
    drift,
    needed,
    outvoted,
)
from rllib_wireless.algorithms.fedmorl.baselines import join, part
from rllib_wireless.algorithms.fedmorl.client import ClientUpdate
from rllib_wireless.algorithms.fedmorl.federated_settings import FederatedSettings
from rllib_wireless.algorithms.fedmorl.federation import Federation
from rllib_wireless.algorithms.fedmorl.screening import mean_figures, screen, statistics_fault, update_fault
from rllib_wireless.algorithms.fedmorl.statistics import Statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights
from rllib_wireless.errors import UserError

logger = logging.getLogger(__name__)

Report = dict[str, Any]
"""What a result tells of a round: names of clients, figures, and `failed` with the reason where it failed."""

_PARTICIPATION, _NOISE = 1, 2  # purposes that generators are keyed by


@dataclass
class Server:
    """What a server decides; it holds no model.

    Args:
        federation: The clients.
        settings: Hyper-parameters.
        seed: Seed of the run.
        failed: Rounds or policy iterations that failed in a row.
        rounds_of: In how many rounds each client's update entered.

    Raises:
        UserError: Where the rule needs more clients than are asked in a round, or dp-accounting is missing.
    """

    federation: Federation
    settings: FederatedSettings
    seed: int
    failed: int = 0
    rounds_of: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        s = self.settings
        if not s.apart:
            check_number(self.num_asked, s.aggregation, s.num_byzantine)
        if s.min_clients > self.num_clients:
            raise UserError(f"min_clients = {s.min_clients}, but there are {self.num_clients} clients")
        if s.noise_multiplier > 0.0:
            privacy.check_installed()

    @property
    def num_clients(self) -> int:
        """Clients there are."""
        return len(self.federation.clients)

    @property
    def num_asked(self) -> int:
        """Clients asked in a round."""
        return max(round(self.settings.client_share * self.num_clients), self.settings.min_clients)

    def draw(self, number: int) -> tuple[str, ...]:
        """The clients asked in a round, a function of (seed, number): equally likely sets of one size."""
        random = np.random.default_rng([_PARTICIPATION, self.seed, number])
        chosen = random.choice(self.num_clients, self.num_asked, replace=False)
        return tuple(self.federation.clients[k] for k in sorted(chosen))

    def gather(self, like: Statistics) -> tuple[dict[str, Statistics], Report]:
        """The statistics of all clients.

        Args:
            like: Of no rows: their names, shapes and types.

        Returns:
            Statistics by client, without those refused; `failed` in the report where a client did not answer or all are refused.
        """
        answers = self.federation.ask("statistics", wait=True)
        valid, refused = screen(answers, lambda client, answer: statistics_fault(answer, like))
        report = self._report(self.federation.clients, answers, refused)
        if lost := report["lost"]:
            return valid, self._fail(
                report, f"no statistics came from {', '.join(lost)}, and the first exchange needs all"
            )
        if len(valid) < (self.num_clients if self.settings.apart else self.settings.min_clients):
            return valid, self._fail(report, f"only {len(valid)} clients' statistics are valid")
        self.failed = 0
        return valid, report

    def round(self, weights: Weights, statistics: Statistics, number: int) -> tuple[Weights, Report]:
        """One federated round.

        Args:
            weights: The global model.
            statistics: Of all clients' rows together.
            number: Number of the round, from 0.

        Returns:
            The new global model, the same one where the round failed; and the round's report.
        """
        s = self.settings
        asked = self.draw(number)
        answers = self.federation.ask("train_model", asked, weights=weights, statistics=statistics, round=number)

        def fault(client: str, update: Any) -> str | None:
            rows = part(statistics, client) if s.apart else statistics
            return update_fault(update, part(weights, client) if s.apart else weights, float(rows["rows"][0]))

        valid, refused = screen(answers, fault)
        report = self._report(asked, answers, refused)
        report["bytes_down"] = len(asked) * (_nbytes(weights) + _nbytes(statistics))
        report["bytes_up"] = sum(_nbytes(getattr(update, "weights", {})) for update in answers.values())
        least = max(s.min_clients, 1 if s.apart else needed(s.aggregation, s.num_byzantine))
        if len(valid) < least:
            return weights, self._fail(report, f"{len(valid)} valid answers came, and {least} are needed")
        self.failed = 0
        self.rounds_of |= {client: self.rounds_of.get(client, 0) + 1 for client in valid}
        shares = dict(zip(valid, client_weights(list(valid.values()), s.aggregation), strict=True))
        report |= mean_figures({client: update.metrics for client, update in valid.items()}, shares)
        if s.apart:
            return weights | join({client: update.weights for client, update in valid.items()}), report
        report |= drift(weights, list(valid.values()))
        report["outvoted"] = outvoted(valid, s.aggregation, s.num_byzantine)
        if s.noise_multiplier > 0.0:
            report["epsilon"] = privacy.epsilon(s.noise_multiplier, max(self.rounds_of.values()), s.delta)
        return self._merge(weights, list(valid.values()), number), report

    def improve(self, weights: Weights, statistics: Statistics, iteration: int) -> tuple[list[str], Report]:
        """One policy iteration of every client.

        Returns:
            The clients that did it, and a report; it failed where there are none.
        """
        figures = self.federation.ask("improve_policies", weights=weights, statistics=statistics, iteration=iteration)
        report = self._report(self.federation.clients, figures, {})
        if not figures:
            return [], self._fail(report, "no client answered")
        self.failed = 0
        return list(figures), report | mean_figures(figures, dict.fromkeys(figures, 1.0))

    def _merge(self, weights: Weights, updates: Sequence[ClientUpdate], number: int) -> Weights:
        s = self.settings
        if s.noise_multiplier > 0.0:
            assert s.clip_norm is not None, "FederatedSettings checks this"
            return privacy.noisy_mean(
                weights,
                updates,
                self.num_asked,
                clip_norm=s.clip_norm,
                noise_multiplier=s.noise_multiplier,
                random=np.random.default_rng([_NOISE, self.seed, number]),
            )
        if s.clip_norm is not None:
            updates = [privacy.clipped(weights, update, s.clip_norm) for update in updates]
        return aggregate(updates, s.aggregation, s.num_byzantine)

    def _report(self, asked: Sequence[str], answers: Mapping[str, Any], refused: Mapping[str, str]) -> Report:
        return {
            "clients": len(answers) - len(refused),
            "asked": list(asked),
            "lost": [client for client in asked if client not in answers],
            "refused": dict(refused),
        }

    def _fail(self, report: Report, why: str) -> Report:
        """A report of a failed round.

        Raises:
            UserError: Where too many failed in a row.
        """
        self.failed += 1
        logger.warning("the round failed: %s", why)
        if self.failed >= self.settings.max_failed_rounds:
            wrong = "".join(f"; {client}: {reason}" for client, reason in report["refused"].items())
            raise UserError(f"{self.failed} rounds in a row failed; in the last one {why}{wrong}")
        return {**report, "failed": why}


def _nbytes(arrays: Mapping[str, Any]) -> int:
    """Bytes of arrays as they travel, without names and shapes."""
    return sum(int(getattr(array, "nbytes", 0)) for array in arrays.values())
