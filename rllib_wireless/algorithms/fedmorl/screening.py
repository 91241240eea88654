"""What a server refuses of what clients send, before it can harm anyone: it names the reason and goes on with the others."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from rllib_wireless.algorithms.fedmorl.client import ClientUpdate
from rllib_wireless.algorithms.fedmorl.layout import Layout, Rows
from rllib_wireless.algorithms.fedmorl.statistics import Statistics, client_statistics
from rllib_wireless.algorithms.fedmorl.world_model import Weights

logger = logging.getLogger(__name__)

T = TypeVar("T")

_COUNTS = ("rows", "feature_square", "target_square", "marginals", "outcomes")  # cannot be negative


def screen(answers: Mapping[str, T], fault: Callable[[str, T], str | None]) -> tuple[dict[str, T], dict[str, str]]:
    """Part answers into those to use and those to refuse, and log the latter.

    Args:
        answers: By client.
        fault: Says what is wrong with a client's answer, or None.

    Returns:
        The valid answers, and why each other one is refused; both by client, in the order given.
    """
    faults = {client: fault(client, answer) for client, answer in answers.items()}
    refused = {client: why for client, why in faults.items() if why is not None}
    for client, why in refused.items():
        logger.warning("%s: its answer is refused: %s", client, why)
    return {client: answer for client, answer in answers.items() if client not in refused}, refused


def update_fault(update: Any, like: Weights, rows: float) -> str | None:
    """What is wrong with an update.

    Args:
        update: What a client sent.
        like: The global model, whose names, shapes and types an update must have.
        rows: Number of rows of all clients, which none can have more of.
    """
    if not isinstance(update, ClientUpdate):
        return f"it is a {type(update).__name__} and not a ClientUpdate"
    count = update.num_samples
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= rows:
        return f"num_samples = {count!r}, but it should be an integer from 1 to the {rows:g} rows of all clients"
    return arrays_fault(update.weights, like)


def statistics_fault(statistics: Any, like: Statistics) -> str | None:
    """What is wrong with statistics, of which `like` gives names, shapes and types."""
    fault = arrays_fault(statistics, like)
    if fault is not None:
        return fault
    if statistics["rows"][0] < 1:
        return f"rows = {statistics['rows'][0]:g}, but it should be at least 1"
    negative = [name for name in _COUNTS if name in like and (statistics[name] < 0).any()]
    return f"{negative[0]} holds a negative number" if negative else None


def empty_statistics(layout: Layout) -> Statistics:
    """The statistics of no rows, which have the names, shapes and types of any client's."""
    flags, numbers = torch.zeros(0, dtype=torch.bool), torch.zeros(0)
    obs, mask = torch.zeros(0, layout.obs_size), torch.zeros(0, layout.num_actions, dtype=torch.bool)
    actions = torch.zeros(0, dtype=torch.int64)
    return client_statistics(Rows(obs, actions, numbers, numbers, obs, numbers, flags, mask), layout)


def figures_fault(figures: Any) -> str | None:
    """What is wrong with losses and the like by name."""
    if not isinstance(figures, Mapping) or not figures:
        return "there are no figures"
    wrong = [name for name, value in figures.items() if not isinstance(value, float) or not math.isfinite(value)]
    return f"{wrong[0]} = {figures[wrong[0]]!r}, but it should be a finite number" if wrong else None


def arrays_fault(arrays: Any, like: Mapping[str, Any]) -> str | None:
    """What is wrong with arrays that should have these names, shapes and types and be finite."""
    if not isinstance(arrays, Mapping) or set(arrays) != set(like):
        names = sorted(map(str, arrays)) if isinstance(arrays, Mapping) else type(arrays).__name__
        return f"its arrays are {names}, not {sorted(like)}"
    for name, wanted in like.items():
        given = arrays[name]
        if not isinstance(given, np.ndarray):
            return f"{name} is a {type(given).__name__} and not an array"
        if given.shape != wanted.shape or given.dtype != wanted.dtype:
            return f"{name} is {given.dtype}{list(given.shape)}, not {wanted.dtype}{list(wanted.shape)}"
        if not np.isfinite(given).all():
            return f"{name} is not finite"
    return None


def mean_figures(figures: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> dict[str, float]:
    """Weighted means of the clients' figures, of those that are whole.

    Args:
        figures: By client; those that `figures_fault` objects to, or whose names are not those of the first, are left out.
        weights: Of each client; only their ratios count.

    Returns:
        Means by name; nothing where no client's figures are whole.
    """
    whole, _ = screen(figures, lambda client, own: figures_fault(own))
    names = set(next(iter(whole.values()), {}))
    whole = {client: own for client, own in whole.items() if set(own) == names}
    total = sum(weights[client] for client in whole)
    first = next(iter(whole.values()), {})
    return {name: math.fsum(weights[c] * own[name] for c, own in whole.items()) / total for name in first}
