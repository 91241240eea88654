"""Rules that merge models, what is refused, and what noise guarantees; against NumPy, SciPy and formulas written anew."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from rllib_wireless.algorithms.fedmorl import privacy
from rllib_wireless.algorithms.fedmorl.aggregation import Aggregation, aggregate, drift, flat, outvoted, unflat
from rllib_wireless.algorithms.fedmorl.client import ClientUpdate
from rllib_wireless.algorithms.fedmorl.screening import mean_figures, statistics_fault, update_fault
from rllib_wireless.errors import UserError

ROBUST: list[Aggregation] = ["median", "trimmed_mean", "krum"]


def updates_of(values: np.ndarray, counts: list[int] | None = None) -> list[ClientUpdate]:
    """Updates whose parameters are rows [n, 6] in two arrays."""
    counts = counts or [10] * len(values)
    rows = values.astype(np.float32)
    return [ClientUpdate({"b": r[:2], "a": r[2:].reshape(2, 2)}, n, {}) for r, n in zip(rows, counts, strict=True)]


def merged(values: np.ndarray, how: Aggregation, f: int = 0, counts: list[int] | None = None) -> np.ndarray:
    weights = aggregate(updates_of(values, counts), how, f)
    assert all(w.dtype == np.float32 for w in weights.values())
    return np.concatenate([weights["b"], weights["a"].ravel()])


def random_rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)


# ------------------------------------------------------------------------------------------------ rules


def test_means_weigh_by_transitions_or_not() -> None:
    values, counts = random_rows(4), [1, 5, 2, 8]
    np.testing.assert_allclose(merged(values, "fedavg", 0, counts), np.average(values, 0, counts), atol=1e-6)
    np.testing.assert_allclose(merged(values, "mean", 0, counts), values.mean(0), atol=1e-6)


@pytest.mark.parametrize(("n", "f"), [(3, 0), (3, 1), (8, 1), (9, 4)])
def test_median_and_trimmed_mean_are_those_of_numpy_and_scipy(n: int, f: int) -> None:
    values = random_rows(n)
    np.testing.assert_allclose(merged(values, "median", f), np.median(values, 0), atol=1e-6)
    np.testing.assert_allclose(merged(values, "trimmed_mean", f), stats.trim_mean(values, (f + 0.01) / n), atol=1e-6)


@pytest.mark.parametrize(("n", "f"), [(3, 0), (5, 1), (8, 1), (9, 3)])
def test_krum_chooses_by_brute_force(n: int, f: int) -> None:
    for seed in range(20):
        values = random_rows(n, seed)
        scores = []
        for i in range(n):
            distances = sorted(
                sum((a - b) ** 2 for a, b in zip(values[i], values[j], strict=True)) for j in range(n) if j != i
            )
            scores.append(sum(distances[: n - f - 2]))
        np.testing.assert_array_equal(merged(values, "krum", f), values[int(np.argmin(scores))])


ROWS = arrays(np.float32, st.tuples(st.integers(5, 8), st.just(6)), elements=st.floats(-100, 100, width=32))


@settings(max_examples=40)
@given(ROWS, st.permutations(range(8)), st.sampled_from(["fedavg", "mean", "median", "trimmed_mean"]))
def test_the_order_of_clients_does_not_matter(values: np.ndarray, order: list[int], how: Aggregation) -> None:
    order = [k for k in order if k < len(values)]
    np.testing.assert_allclose(merged(values[order], how, 1), merged(values, how, 1), atol=1e-4)


@settings(max_examples=40)
@given(ROWS, st.floats(-(2.0**100), 2.0**100, width=32), st.sampled_from(ROBUST))
def test_one_client_cannot_move_a_robust_rule_beyond_the_others(
    values: np.ndarray, wrong: float, how: Aggregation
) -> None:
    values[0] = wrong
    result, honest = merged(values, how, 1), values[1:]
    if how == "krum" and abs(wrong) <= 1e6:
        return  # krum chooses among the models there are, and one that lies among the others may be chosen
    slack = 1e-5 * (1 + np.abs(honest).max())
    assert (result >= honest.min(0) - slack).all() and (result <= honest.max(0) + slack).all()


def test_the_mean_is_moved_by_one_client() -> None:
    values = random_rows(8)
    values[0] = 1e6
    assert (merged(values, "mean") > values[1:].max(0)).all()


@pytest.mark.parametrize(
    ("how", "f", "enough", "bound"),
    [("krum", 1, 5, "2 f \\+ 2"), ("median", 2, 5, "2 f"), ("trimmed_mean", 1, 3, "2 f")],
)
def test_too_few_clients_for_a_rule_are_an_error(how: Aggregation, f: int, enough: int, bound: str) -> None:
    merged(random_rows(enough), how, f)
    with pytest.raises(UserError, match=f"n > {bound}, that is {enough} clients, but there are {enough - 1}"):
        merged(random_rows(enough - 1), how, f)


def test_clients_that_lie_outside_everywhere_are_named() -> None:
    values = random_rows(8).clip(-1, 1)  # with ties, so that nobody else is alone outside
    values[3] = 50.0
    named = dict(zip("abcdefgh", updates_of(values), strict=True))
    assert outvoted(named, "median", 1) == outvoted(named, "trimmed_mean", 1) == ["d"]
    assert len(outvoted(named, "krum", 1)) == 7 and "d" in outvoted(named, "krum", 1)
    assert outvoted(named, "fedavg", 1) == []


def test_drift_is_the_distance_from_the_start() -> None:
    values = np.zeros((2, 6))
    values[0, 0], values[1, 5] = 3.0, 4.0
    start = updates_of(np.zeros((1, 6)))[0].weights
    told = drift(start, updates_of(values))
    assert told == pytest.approx({"drift_mean": 3.5, "drift_max": 4.0, "dispersion": 2.5})


# ------------------------------------------------------------------------------------------------ what is refused

GOOD = {"b": np.zeros(2, np.float32), "a": np.zeros((2, 2), np.float32)}


@pytest.mark.parametrize(
    ("weights", "count", "reason"),
    [
        (GOOD, 0, "num_samples = 0"),
        (GOOD, -3, "num_samples = -3"),
        (GOOD, 2.5, "num_samples = 2.5"),
        (GOOD, True, "num_samples = True"),
        (GOOD, 101, "num_samples = 101"),
        ({"b": GOOD["b"]}, 5, "its arrays are"),
        ({**GOOD, "c": GOOD["b"]}, 5, "its arrays are"),
        ({**GOOD, "b": np.zeros(3, np.float32)}, 5, "b is float32\\[3\\]"),
        ({**GOOD, "b": np.zeros(2, np.float64)}, 5, "b is float64"),
        ({**GOOD, "b": np.array(["x", None])}, 5, "b is object"),
        ({**GOOD, "b": [0.0, 0.0]}, 5, "b is a list"),
        ({**GOOD, "b": np.array([0, np.nan], np.float32)}, 5, "b is not finite"),
        ({**GOOD, "b": np.array([0, np.inf], np.float32)}, 5, "b is not finite"),
        (None, 5, "its arrays are NoneType"),
    ],
)
def test_wrong_updates_are_refused_with_the_reason(weights: Any, count: Any, reason: str) -> None:
    import re

    fault = update_fault(ClientUpdate(weights, count, {}), GOOD, rows=100.0)
    assert fault is not None and re.search(reason, fault)


def test_right_updates_are_not_refused_and_other_things_are() -> None:
    assert update_fault(ClientUpdate(GOOD, 100, {}), GOOD, rows=100.0) is None
    assert update_fault("hello", GOOD, rows=100.0) == "it is a str and not a ClientUpdate"


def test_wrong_statistics_are_refused() -> None:
    like = {"rows": np.zeros(1), "outcomes": np.zeros(3)}
    good = {"rows": np.array([9.0]), "outcomes": np.array([4.0, 0.0, 5.0])}
    assert statistics_fault(good, like) is None
    assert statistics_fault({**good, "rows": np.zeros(1)}, like) == "rows = 0, but it should be at least 1"
    assert (
        statistics_fault({**good, "outcomes": np.array([4.0, -1.0, 5.0])}, like) == "outcomes holds a negative number"
    )
    assert statistics_fault({**good, "outcomes": np.full(3, np.nan)}, like) == "outcomes is not finite"


def test_a_nan_figure_does_not_reach_the_mean() -> None:
    figures = {"a": {"loss": 1.0}, "b": {"loss": float("nan")}, "c": {"loss": 4.0}, "d": {"other": 7.0}}
    assert mean_figures(figures, {"a": 1.0, "b": 5.0, "c": 2.0, "d": 1.0}) == {"loss": 3.0}
    assert mean_figures({"b": figures["b"]}, {"b": 1.0}) == {}


# ------------------------------------------------------------------------------------------------ privacy


def test_clipping_shortens_what_is_longer_and_keeps_the_rest() -> None:
    start, (update,) = updates_of(np.ones((1, 6)))[0].weights, updates_of(np.array([[4.0, 1, 1, 1, 1, 5.0]]))
    np.testing.assert_array_equal(flat(privacy.clipped(start, update, 5.1).weights), flat(update.weights))
    change = flat(privacy.clipped(start, update, 1.0).weights) - flat(start)
    np.testing.assert_allclose(np.sort(change), [0, 0, 0, 0, 0.6, 0.8], atol=1e-6)


def test_the_noisy_mean_has_the_mean_and_the_noise_that_it_should() -> None:
    start = {"w": np.zeros(20_000, np.float32)}
    updates = [ClientUpdate({"w": np.full(20_000, v, np.float32)}, 1, {}) for v in (0.001, 0.003)]
    random = np.random.default_rng(1)
    kwargs: dict[str, Any] = {"clip_norm": 1.0, "noise_multiplier": 2.0, "random": random}
    result = privacy.noisy_mean(start, updates, 4, **kwargs)["w"]
    # Neither change is longer than 1; four clients were asked, and two that did not answer count as no change.
    assert result.std() == pytest.approx(2.0 * 1.0 / 4, rel=0.03)
    assert result.mean() == pytest.approx(0.001, abs=4 * 0.5 / np.sqrt(20_000))


def delta_of(epsilon: float, sigma: float) -> float:
    """Balle and Wang (2018), theorem 8, for sensitivity 1."""
    a, b = 1 / (2 * sigma), epsilon * sigma
    return float(stats.norm.cdf(a - b) - np.exp(epsilon) * stats.norm.cdf(-a - b))


@pytest.mark.parametrize(("sigma", "rounds", "delta"), [(1.0, 1, 1e-3), (2.0, 12, 1e-3), (8.0, 20, 1e-5)])
def test_epsilon_is_that_of_the_closed_form(sigma: float, rounds: int, delta: float) -> None:
    pytest.importorskip("dp_accounting")
    epsilon = privacy.epsilon(sigma, rounds, delta)
    assert delta_of(epsilon, sigma / np.sqrt(rounds)) == pytest.approx(delta, rel=1e-4)
    assert privacy.epsilon(sigma, 0, delta) == 0.0


def test_epsilon_is_below_that_of_the_accountant_of_renyi_divergences() -> None:
    accounting = pytest.importorskip("dp_accounting")
    rdp = pytest.importorskip("dp_accounting.rdp")
    accountant = rdp.RdpAccountant()
    accountant.compose(accounting.SelfComposedDpEvent(accounting.GaussianDpEvent(2.0), 12))
    exact, bound = privacy.epsilon(2.0, 12, 1e-3), accountant.get_epsilon(1e-3)
    assert 0.8 * bound < exact < bound


def test_parameters_keep_names_shapes_and_values_in_one_row() -> None:
    (update,) = updates_of(random_rows(1))
    again = unflat(flat(update.weights), update.weights)
    assert list(again) == list(update.weights)
    for name, value in update.weights.items():
        np.testing.assert_array_equal(again[name], value)
