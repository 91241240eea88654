"""Regressors of Q-values: what is fitted by name, and how the fits become plain arrays.

A fit belongs to one agent and answers for all its actions at once. Trees become `Forests`, linear models and networks a
`StackedMLP`; other regressors of scikit-learn have no form that could be kept without running code, and are refused.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.discovery import all_estimators
from torch import nn

from rllib_wireless.algorithms.scam_fqi.settings import SCAMFQISettings
from rllib_wireless.envs.base import BoolArray, FloatArray, IntArray
from rllib_wireless.errors import ConfigError
from rllib_wireless.policies import StackedMLP
from rllib_wireless.policies.trees import LEAF, UNKNOWN, Forests

Floats = npt.NDArray[np.float64]


class Fit(ABC):
    """Q-values of one agent."""

    @abstractmethod
    def values(self, obs: FloatArray, mask: BoolArray) -> FloatArray:
        """Q-values [T, A] of observations [T, D]; minus infinity where the mask forbids or nothing is known."""


class ForestFit(Fit):
    """Q-values that trees predict.

    Args:
        forests: Those of one agent.
    """

    def __init__(self, forests: Forests) -> None:
        self.forests = forests

    def values(self, obs: FloatArray, mask: BoolArray) -> FloatArray:
        return self.forests.predict(obs, np.zeros(len(obs), np.int64), mask)


class NetworkFit(Fit):
    """Q-values that a network predicts, a linear one included.

    Args:
        network: A stack of one.
    """

    def __init__(self, network: StackedMLP) -> None:
        self.network = network

    def values(self, obs: FloatArray, mask: BoolArray) -> FloatArray:
        with torch.inference_mode():
            out: FloatArray = self.network(torch.from_numpy(obs)[:, None])[:, 0].numpy()
        return np.where(mask, out, -np.inf).astype(np.float32)


FitFunction = Callable[[FloatArray, IntArray, Floats, int], Fit]
"""Of observations [T, D], actions [T], targets [T] and a seed."""


def fit_function(s: SCAMFQISettings, num_actions: int) -> FitFunction:
    """What fits the regressor of the settings.

    Raises:
        ConfigError: At a regressor that does not exist, cannot be kept, or does not take its arguments.
    """
    if s.regressor == "torch":
        network = _NetworkFitter(s, num_actions)
        return network.fit
    cls = dict(all_estimators("regressor")).get(s.regressor)
    if cls is None:
        known = ", ".join(sorted(_KINDS))
        raise ConfigError(s.owner, "regressor", s.regressor, f"it should be torch or one of {known}")
    kind = _KINDS.get(s.regressor)
    if kind is None:
        raise ConfigError(
            s.owner,
            "regressor",
            s.regressor,
            "its fits cannot be kept as arrays: take one of trees, a linear one or torch",
        )
    make = _maker(s, cls)
    return lambda obs, actions, targets, seed: kind(
        make, obs, actions, targets, seed, num_actions, s.actions == "input"
    )


def _maker(s: SCAMFQISettings, cls: Any) -> Callable[[int], Any]:
    """Makes an unfitted regressor for a seed; settings that its class does not know are left out."""
    known = cls().get_params() if not getattr(cls, "_required_parameters", ()) else {}
    shared = {name: getattr(s, name) for name in ("n_estimators", "min_samples_split", "min_samples_leaf")}
    if unknown := sorted(set(s.regressor_params) - set(known)):
        raise ConfigError(
            s.owner,
            "regressor_params",
            s.regressor_params,
            f"{s.regressor} has no {unknown[0]}; it has {', '.join(known)}",
        )
    params = {name: value for name, value in shared.items() if name in known} | dict(s.regressor_params)
    regressor = cls(**params)
    try:
        regressor._validate_params()
    except ValueError as error:
        raise ConfigError(s.owner, "regressor_params", s.regressor_params, str(error)) from None

    def make(seed: int) -> Any:
        return cls(**params, **({"random_state": seed} if "random_state" in known else {}))

    return make


def _by_action(
    obs: FloatArray, actions: IntArray, targets: Floats, num_actions: int, as_input: bool
) -> list[tuple[Sequence[int], FloatArray, Floats]]:
    """Regression problems: the actions that each is of, inputs and targets."""
    if as_input:
        one_hot = np.eye(num_actions, dtype=np.float32)[actions]
        return [(np.unique(actions).tolist(), np.concatenate([obs, one_hot], axis=1), targets)]
    return [([a], obs[actions == a], targets[actions == a]) for a in np.unique(actions).tolist()]


def _fit_trees(
    make: Callable[[int], Any],
    obs: FloatArray,
    actions: IntArray,
    targets: Floats,
    seed: int,
    num_actions: int,
    as_input: bool,
) -> ForestFit:
    roots: dict[int, IntArray] = {}
    nodes: list[tuple[Any, ...]] = []
    start = 0
    for number, (of, x, y) in enumerate(_by_action(obs, actions, targets, num_actions, as_input)):
        regressor = make(_seed(seed, number)).fit(x, y)
        trees, scale, offset = _trees_of(regressor)
        own = []
        for tree in trees:
            arrays = _arrays_of(tree, scale, offset, start)
            own.append(start)
            start += len(arrays[0])
            nodes.append(arrays)
        roots |= dict.fromkeys(of, np.array(own, np.int64))
    count = max((len(r) for r in roots.values()), default=1)
    table = np.full((1, num_actions, count), UNKNOWN, np.int64)
    for action, own_roots in roots.items():
        table[0, action] = own_roots
    joined = [np.concatenate([n[k] for n in nodes]) if nodes else np.zeros(0, t) for k, t in enumerate(_TYPES)]
    return ForestFit(Forests(table, *joined))


_TYPES = (np.int32, np.float32, np.int64, np.float32)


def _trees_of(regressor: Any) -> tuple[list[Any], float, float]:
    """The trees of a fit, and scale and offset of their leaves with which the fit is the trees' mean."""
    if hasattr(regressor, "tree_"):
        return [regressor.tree_], 1.0, 0.0
    if hasattr(regressor, "init_"):  # boosting: a constant, and a sum of small steps
        trees = [tree.tree_ for tree in regressor.estimators_[:, 0]]
        return trees, regressor.learning_rate * len(trees), float(regressor.init_.constant_.ravel()[0])
    return [tree.tree_ for tree in regressor.estimators_], 1.0, 0.0


def _arrays_of(tree: Any, scale: float, offset: float, start: int) -> tuple[Any, ...]:
    """Nodes of one tree, depth first, as `Forests` keeps them."""
    left, right = np.asarray(tree.children_left), np.asarray(tree.children_right)
    inner = left >= 0
    assert (left[inner] == np.flatnonzero(inner) + 1).all(), "scikit-learn's nodes lie depth first"
    # Observations are of single precision: x <= t holds for them exactly where x <= the last such number up to t.
    threshold = tree.threshold.astype(np.float32)
    above = threshold > tree.threshold
    threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
    return (
        np.where(inner, tree.feature, LEAF).astype(np.int32),
        np.where(inner, threshold, 0.0).astype(np.float32),
        np.where(inner, right + start, UNKNOWN),
        (tree.value[:, 0, 0] * scale + offset).astype(np.float32),
    )


def _fit_linear(
    make: Callable[[int], Any],
    obs: FloatArray,
    actions: IntArray,
    targets: Floats,
    seed: int,
    num_actions: int,
    as_input: bool,
) -> NetworkFit:
    size = obs.shape[1]
    weight = np.zeros((size, num_actions), np.float32)
    # An action of which nothing is known should not look better than those that were tried.
    bias = np.full(num_actions, targets.min(initial=0.0), np.float32)
    for number, (of, x, y) in enumerate(_by_action(obs, actions, targets, num_actions, as_input)):
        regressor = make(_seed(seed, number)).fit(x, y)
        coefficients, intercept = regressor.coef_.ravel(), float(np.ravel(regressor.intercept_)[0])
        for a in of:
            weight[:, a] = coefficients[:size]
            bias[a] = intercept + (coefficients[size + a] if as_input else 0.0)
    layers = [torch.from_numpy(weight)[None]], [torch.from_numpy(bias)[None, None]]
    return NetworkFit(StackedMLP.from_layers(*layers))


class _NetworkFitter:
    """A network with an output for each action, fitted by Adam on the squared error of the action taken."""

    def __init__(self, s: SCAMFQISettings, num_actions: int) -> None:
        known: dict[str, Any] = {"hiddens": (64, 64), "lr": 1e-3, "steps": 1000, "batch_size": 256}
        if unknown := sorted(set(s.regressor_params) - set(known)):
            raise ConfigError(
                s.owner, "regressor_params", s.regressor_params, f"torch has no {unknown[0]}; it has {', '.join(known)}"
            )
        self._params: Mapping[str, Any] = known | s.regressor_params
        self._num_actions = num_actions

    def fit(self, obs: FloatArray, actions: IntArray, targets: Floats, seed: int) -> NetworkFit:
        p, random = self._params, torch.Generator().manual_seed(seed)
        network = StackedMLP(1, (obs.shape[1], *p["hiddens"], self._num_actions), random)
        if not len(obs):
            return NetworkFit(network)
        mean, std = float(targets.mean()), float(targets.std()) or 1.0
        x, a = torch.from_numpy(obs)[:, None], torch.from_numpy(actions)[:, None]
        y = torch.from_numpy(((targets - mean) / std).astype(np.float32))[:, None]
        optimizer = torch.optim.Adam(network.parameters(), lr=p["lr"], fused=True)
        for _ in range(p["steps"]):
            rows = torch.randint(len(x), (min(p["batch_size"], len(x)),), generator=random)
            predicted = network(x[rows]).gather(-1, a[rows][..., None])[..., 0]
            optimizer.zero_grad()
            nn.functional.mse_loss(predicted, y[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():  # back to the units of the targets
            network.weights[-1].mul_(std)
            network.biases[-1].mul_(std).add_(mean)
        return NetworkFit(network)


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


_TREES = (
    "ExtraTreesRegressor",
    "RandomForestRegressor",
    "DecisionTreeRegressor",
    "ExtraTreeRegressor",
    "GradientBoostingRegressor",
)
_LINEAR = (
    "LinearRegression",
    "Ridge",
    "Lasso",
    "ElasticNet",
    "BayesianRidge",
    "HuberRegressor",
    "SGDRegressor",
    "LinearSVR",
)
_KINDS: dict[str, Callable[..., Fit]] = {**dict.fromkeys(_TREES, _fit_trees), **dict.fromkeys(_LINEAR, _fit_linear)}
"""How to fit and keep what scikit-learn has by name."""
