"""How a server makes one model of its clients': means, and rules that some wrong clients cannot move far."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from rllib_wireless.algorithms.fedmorl.client import ClientUpdate
from rllib_wireless.algorithms.fedmorl.world_model import Weights
from rllib_wireless.errors import UserError

Aggregation = Literal["fedavg", "mean", "median", "trimmed_mean", "krum"]
Values = npt.NDArray[np.float64]


def aggregate(updates: Sequence[ClientUpdate], how: Aggregation, num_byzantine: int = 0) -> Weights:
    """The new global model.

    - `fedavg`: mean weighted by numbers of transitions (McMahan et al., "Communication-Efficient Learning of Deep Networks from
      Decentralized Data", AISTATS 2017); `mean`: with equal weights.
    - `median`, `trimmed_mean`: of each parameter; the trimmed mean leaves out the `num_byzantine` smallest and largest values
      (Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018).
    - `krum`: the model of the client that lies nearest to its n - f - 2 nearest others (Blanchard et al., "Machine Learning with
      Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS 2017).

    Args:
        updates: What the clients sent, n of them, in the order of the clients.
        how: The rule.
        num_byzantine: Number f of clients that may send anything.

    Raises:
        UserError: Where there are too few clients for the rule.
    """
    check_number(len(updates), how, num_byzantine)
    if how == "krum":
        return dict(updates[krum(_flat(updates), num_byzantine)].weights)
    if how in ("fedavg", "mean"):
        shares = client_weights(updates, how)
        return _by_name(updates, lambda values: weighted_mean(values, shares))
    if how == "median":
        return _by_name(updates, lambda values: np.median(values, axis=0))
    return _by_name(updates, lambda values: trimmed_mean(values, num_byzantine))


def check_number(clients: int, how: Aggregation, num_byzantine: int) -> None:
    """Check that a rule holds for so many clients.

    Raises:
        UserError: Naming the bound that is not met.
    """
    f = num_byzantine
    if least := needed(how, f):
        reason = {"krum": "n > 2 f + 2", "median": "n > 2 f", "trimmed_mean": "n > 2 f"}[how]
        if clients < least:
            raise UserError(
                f"aggregation = {how!r} with num_byzantine f = {f} needs {reason}, that is {least} clients, but there are {clients}"
            )


def needed(how: Aggregation, num_byzantine: int) -> int:
    """The least number of clients for which a rule is defined; 0 where any number will do."""
    if how == "krum":
        return 2 * num_byzantine + 3
    return 2 * num_byzantine + 1 if how in ("median", "trimmed_mean") else 0


def outvoted(updates: Mapping[str, ClientUpdate], how: Aggregation, num_byzantine: int) -> list[str]:
    """Clients whose parameters a robust rule left out.

    By `krum` these are all but the chosen one. By `median` and `trimmed_mean` some value of every client is among the f smallest
    or largest, 2 f / n of them if all are alike; a client is named where its share lies nearer to 1 than to that.
    """
    if how in ("fedavg", "mean") or (how != "krum" and num_byzantine == 0):
        return []
    values = _flat(list(updates.values()))
    if how == "krum":
        chosen = krum(values, num_byzantine)
        return [client for k, client in enumerate(updates) if k != chosen]
    share = extreme_share(values, num_byzantine)
    expected = 2 * num_byzantine / len(values)
    return [client for client, s in zip(updates, share, strict=True) if s > (1 + expected) / 2]


def client_weights(updates: Sequence[ClientUpdate], how: Aggregation) -> list[float]:
    """Each client's share in the mean of figures, and of parameters with `fedavg` and `mean`; they sum to 1."""
    counts = [update.num_samples if how == "fedavg" else 1 for update in updates]
    return [count / sum(counts) for count in counts]


def weighted_mean(values: Values, shares: Sequence[float]) -> Values:
    """The mean of rows [n, ...]; each is added in turn, so the sum does not depend on who was faster."""
    total = np.zeros(values.shape[1:])
    for share, value in zip(shares, values, strict=True):
        total += share * value
    return total


def trimmed_mean(values: Values, f: int) -> Values:
    """The mean over n of values [n, ...] without the f smallest and the f largest."""
    ordered = np.sort(values, axis=0)
    mean: Values = ordered[f : len(values) - f].mean(axis=0)
    return mean


def krum(values: Values, f: int) -> int:
    """The row of [n, P] whose squared distances to its n - f - 2 nearest others have the smallest sum; the first of equals."""
    distance = np.array([np.square(values - row).sum(1) for row in values])
    np.fill_diagonal(distance, np.inf)
    nearest = np.sort(distance, axis=1)[:, : len(values) - f - 2]
    return int(nearest.sum(1).argmin())


def extreme_share(values: Values, f: int) -> Values:
    """For each of n rows [n, P], the share of columns in which it lies beyond all but f at either end.

    Columns in which all agree do not count: parameters that nothing trains.
    """
    ordered = np.sort(values, axis=0)
    beyond = (values < ordered[f]) | (values > ordered[len(values) - 1 - f])
    share: Values = beyond[:, ordered[0] < ordered[-1]].sum(1) / max(int((ordered[0] < ordered[-1]).sum()), 1)
    return share


def drift(start: Weights, updates: Sequence[ClientUpdate]) -> dict[str, float]:
    """How far clients went, as L2 distances over all parameters.

    Args:
        start: The model that they started from.
        updates: What they sent.

    Returns:
        `drift_mean` and `drift_max` from the start; `dispersion`, the root mean square distance from the clients' mean.
    """
    values = _flat(updates)
    moved = np.linalg.norm(values - flat(start), axis=1)
    spread = np.square(values - values.mean(0)).sum(1).mean()
    return {
        "drift_mean": float(moved.mean()),
        "drift_max": float(moved.max()),
        "dispersion": float(np.sqrt(spread)),
    }


def flat(weights: Weights) -> Values:
    """All parameters in one row of double precision, [P]."""
    return np.concatenate([weights[name].ravel() for name in sorted(weights)]).astype(np.float64)


def unflat(values: Values, like: Weights) -> Weights:
    """A row of parameters under the names and in the shapes of a model."""
    names = sorted(like)
    parts = np.split(values, np.cumsum([like[name].size for name in names])[:-1])
    rows = dict(zip(names, parts, strict=True))
    return {name: rows[name].reshape(value.shape).astype(np.float32) for name, value in like.items()}


def _flat(updates: Sequence[ClientUpdate]) -> Values:
    return np.stack([flat(update.weights) for update in updates])


def _by_name(updates: Sequence[ClientUpdate], rule: Callable[[Values], Values]) -> Weights:
    """Apply a rule to each array of parameters, [n, ...] of double precision."""
    names = updates[0].weights
    return {
        name: rule(np.stack([u.weights[name].astype(np.float64) for u in updates])).astype(np.float32) for name in names
    }
