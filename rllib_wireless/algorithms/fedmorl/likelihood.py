"""How well clients' models, whatever each was trained on, tell what happens to all clients: likelihood on common rows."""

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch

from rllib_wireless.algorithms.fedmorl.client import load_rows
from rllib_wireless.algorithms.fedmorl.fedmorl import FedMORL
from rllib_wireless.algorithms.fedmorl.layout import Rows, effect_targets
from rllib_wireless.algorithms.fedmorl.world_model import WorldModel


class HeldOutLoss(NamedTuple):
    """Mean negative log-likelihood of rows, in nats a row.

    Attributes:
        model: Of all that follows an action. A few rows that a narrow Gaussian did not expect can decide it.
        outcome: Of the outcome alone: the categorical fields and whether the episode ends. Nothing outweighs the rest.
    """

    model: float
    outcome: float


def held_out_loss(algorithm: FedMORL, folders: Mapping[str, Path]) -> dict[str, HeldOutLoss]:
    """The loss of rows that nobody trained on, under each client's model.

    All models are judged on all rows, each folder with the same weight: a model that only knows its own client's rows
    does well on these. A simulation can do that, a deployment cannot.

    Args:
        algorithm: After its model phase.
        folders: Fresh data of one agent each.

    Returns:
        By client; with a global model all are equal.
    """
    rows = [load_rows(folder) for folder in folders.values()]
    clients = algorithm.federation.clients
    if not algorithm.settings.apart:
        return dict.fromkeys(clients, _mean_loss(algorithm.model_of(clients[0]), rows))
    return {client: _mean_loss(algorithm.model_of(client), rows) for client in clients}


def _mean_loss(model: WorldModel, rows: list[Rows]) -> HeldOutLoss:
    """In units that are the same for all models: those of the rows' own standard deviation."""
    with torch.no_grad():
        terms = [model.negative_log_likelihood(Rows(*(c[None] for c in r))) for r in rows]
    outcome = fmean(float(t["outcome"]) for t in terms)
    deviation = torch.cat([effect_targets(r, model.layout) for r in rows]).std(0)
    # A density in units of the model's deviation, in units of the rows'; what is constant in the rows does not count.
    varies = deviation > 1e-6
    if (model.target_std[varies] <= 1e-6).any():
        return HeldOutLoss(math.inf, outcome)  # it takes for constant what is not
    units = float((model.target_std[varies] / deviation[varies]).log().sum())
    return HeldOutLoss(fmean(float(sum(t.values())) for t in terms) + units, outcome)
