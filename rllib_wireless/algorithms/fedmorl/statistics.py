"""The sums over its rows that a client sends once: they fix how the model sees data, and where it begins."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from rllib_wireless.algorithms.fedmorl.layout import Layout, Rows, effect_targets, inverse, outcome_parts

Statistics = dict[str, npt.NDArray[np.float64]]
"""Counts and sums over a client's rows, see `client_statistics`; those of several clients are added up."""

MAX_OUTCOMES = 64
"""Above this many outcomes seen, categorical fields are modelled one by one and expectations sampled."""

MIN_ROWS = 10
"""A client sends the sums of products of no smaller group of rows."""

_MAX_CODES = 2**16  # numbers in a table of statistics; a larger one is not sent


def client_statistics(rows: Rows, layout: Layout) -> Statistics:
    """What a client tells of its rows [T, ...] beside parameters; the sizes do not depend on T.

    rows, feature_sum, feature_square, target_sum, target_square: number, sums and sums of squares, for normalisation.
    marginals, outcomes: how often each value, and each combination of values, came next.
    gram, cross: sums of x x^T and x y^T for each pair of outcome and action, x = (1, continuous fields), y = targets; they
    start the model from least squares. Pairs with fewer than MIN_ROWS rows are left out: their sums would tell the rows.
    """
    features, targets = rows.obs[:, list(layout.continuous)].double(), effect_targets(rows, layout).double()
    sizes = layout.sizes
    parts = outcome_parts(rows.new_obs, rows.terminateds, layout)
    statistics = {
        "rows": torch.tensor([float(len(rows.obs))], dtype=torch.float64),
        "feature_sum": features.sum(0),
        "feature_square": features.square().sum(0),
        "target_sum": targets.sum(0),
        "target_square": targets.square().sum(0),
        "marginals": torch.cat([torch.bincount(parts[:, i], minlength=n) for i, n in enumerate(sizes)]).double(),
    }
    if np.prod(sizes, dtype=float) <= _MAX_CODES:
        number = int(np.prod(sizes))
        code = torch.from_numpy(np.ravel_multi_index(tuple(parts.T.numpy()), sizes))
        statistics["outcomes"] = torch.bincount(code, minlength=number).double()
        pairs = number * layout.num_actions
        if pairs * (len(layout.continuous) + 2) ** 2 <= _MAX_CODES:
            x = torch.cat([torch.ones_like(features[:, :1]), features], dim=1)
            own = functional.one_hot(code * layout.num_actions + rows.actions, pairs).double()
            own *= own.sum(0) >= MIN_ROWS
            statistics["gram"] = torch.einsum("tk,ti,tj->kij", own, x, x)
            statistics["cross"] = torch.einsum("tk,ti,tj->kij", own, x, targets)
    return {name: value.numpy() for name, value in statistics.items()}


def merge_statistics(clients: Sequence[Statistics]) -> Statistics:
    """Statistics of all clients' rows together."""
    return {name: np.sum([c[name] for c in clients], axis=0) for name in clients[0]}


def classes(layout: Layout, statistics: Statistics) -> Tensor | None:
    """The outcomes seen by any client, [K, F + 1]; None where they are too many."""
    if "outcomes" not in statistics:
        return None
    seen = np.flatnonzero(statistics["outcomes"])
    if len(seen) > MAX_OUTCOMES:
        return None
    return torch.from_numpy(np.stack(np.unravel_index(seen, layout.sizes), axis=-1))


def moments(statistics: Statistics, name: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of `feature` or `target` over the rows."""
    rows = statistics["rows"]
    mean = statistics[f"{name}_sum"] / rows
    variance = (statistics[f"{name}_square"] / rows - mean**2).clip(min=0.0)
    return torch.from_numpy(mean).float(), torch.from_numpy(np.sqrt(variance)).float()


def least_squares(statistics: Statistics, layout: Layout, seen: Tensor) -> Tensor:
    """The regression of normalised targets that the clients' sums determine, with one pseudo-row of ridge.

    Args:
        statistics: Of all clients' rows together, with `gram` and `cross`.
        layout: Columns of the observation.
        seen: Outcomes [K, F + 1], see `classes`.

    Returns:
        Coefficients [K * A * (1 + C), T] of 1 and the normalised continuous fields, for each outcome and action.
    """
    codes = np.ravel_multi_index(tuple(seen.T.numpy()), layout.sizes)
    pairs = (codes[:, None] * layout.num_actions + np.arange(layout.num_actions)).ravel()
    gram, cross = (torch.from_numpy(statistics[name][pairs]) for name in ("gram", "cross"))
    (feature_mean, feature_std), (target_mean, target_std) = (moments(statistics, of) for of in ("feature", "target"))
    scale = inverse(feature_std).double()
    change = torch.diag(torch.cat([torch.ones(1, dtype=torch.float64), scale]))  # of raw into normalised features
    change[1:, 0] = -feature_mean.double() * scale
    cross = change @ (cross - gram[:, :, :1] * target_mean.double()) * inverse(target_std).double()
    solution = torch.linalg.solve(change @ gram @ change.T + torch.eye(len(change)), cross)
    coefficients: Tensor = solution.flatten(0, 1).float()
    return coefficients
