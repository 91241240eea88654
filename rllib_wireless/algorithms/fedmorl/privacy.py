"""Client-level differential privacy of the federated rounds: clipped updates, a noisy mean, and what that guarantees.

The server is trusted with the updates; what is protected is what the models of all rounds tell of any one client. Two runs are
neighbours when they differ in what one client contributes, down to nothing at all. A clipped update has norm `clip_norm` at
most, so the sum moves by no more, and noise of `noise_multiplier * clip_norm` makes a round a Gaussian mechanism. Who takes
part is public (every result names it), so sampling amplifies nothing: a client's guarantee is that of the rounds it was in.

Source: McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR 2018.
"""

import math
from collections.abc import Callable, Sequence
from importlib import import_module

import numpy as np

from rllib_wireless.algorithms.fedmorl.aggregation import Values, flat, unflat
from rllib_wireless.algorithms.fedmorl.client import ClientUpdate
from rllib_wireless.algorithms.fedmorl.world_model import Weights
from rllib_wireless.errors import UserError


def clipped_change(start: Weights, weights: Weights, clip_norm: float) -> Values:
    """What a client changed, [P], shortened to an L2 norm of `clip_norm` where it is longer."""
    change = flat(weights) - flat(start)
    length = float(np.linalg.norm(change))
    return change if length <= clip_norm else change * (clip_norm / length)


def clipped(start: Weights, update: ClientUpdate, clip_norm: float) -> ClientUpdate:
    """The update with its change clipped."""
    weights = unflat(flat(start) + clipped_change(start, update.weights, clip_norm), start)
    return ClientUpdate(weights, update.num_samples, update.metrics)


def noisy_mean(
    start: Weights,
    updates: Sequence[ClientUpdate],
    num_asked: int,
    *,
    clip_norm: float,
    noise_multiplier: float,
    random: np.random.Generator,
) -> Weights:
    """The global model plus the mean of clipped changes with Gaussian noise.

    The sum is divided by the number of clients asked: who does not answer counts as no change, and the divisor tells nothing.

    Args:
        start: The global model.
        updates: What clients sent, in the order of the clients.
        num_asked: Clients asked, at least as many as answered.
        clip_norm: L2 norm C that no change exceeds.
        noise_multiplier: Standard deviation of the noise in the sum, in units of C.
        random: Source of the noise.
    """
    total = flat(start) * 0.0
    for update in updates:
        total += clipped_change(start, update.weights, clip_norm)
    total += random.normal(0.0, noise_multiplier * clip_norm, total.shape)
    return unflat(flat(start) + total / num_asked, start)


def epsilon(noise_multiplier: float, rounds: int, delta: float) -> float:
    """The epsilon of (epsilon, delta) of a client that was in so many rounds.

    Rounds of one noise compose to a single Gaussian mechanism with noise smaller by the square root of their number, whose
    guarantee is known exactly (Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018).

    Raises:
        UserError: Where dp-accounting is not installed.
    """
    find = _accounting()
    return float(find(noise_multiplier / math.sqrt(rounds), delta)) if rounds else 0.0


def check_installed() -> None:
    """Check that epsilon can be told.

    Raises:
        UserError: Where dp-accounting is not installed.
    """
    _accounting()


def _accounting() -> Callable[[float, float], float]:
    try:
        module = import_module("dp_accounting")
    except ImportError:
        raise UserError(
            "noise_multiplier > 0 needs dp-accounting to tell epsilon: pip install 'rllib-wireless[privacy]'"
        ) from None
    find: Callable[[float, float], float] = module.get_epsilon_gaussian
    return find
