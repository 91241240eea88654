"""What the paper claims, and what this project set itself, beside what was measured."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rllib_wireless.papers.dcc.setup import LABELS, NOT_WORSE, QUALITY, SAME_COST, SPEED_UP
from rllib_wireless.papers.experiment import Claim, Json
from rllib_wireless.papers.intervals import by_seed, estimate, paired

Studies = Mapping[str, Sequence[Json]]

_OWN = "not in the paper"
_EXACT, _NEARLY = 1e-6, 1e-3
"""Relative errors that count as none: of a cost, and of a quotient of tiny differences."""

LITTLE = 0.05
"""A gain that counts as little, relative to the cost at K = 0."""

_AGAINST_IQL = {"dcc": "section 5.1, figure 1(a)", "dcc_lambda": _OWN, "dcc_overlap": _OWN}
_NETWORKS = {"mappo": "section 5.1", "mappo_long": "C.3, figure 11", "ippo": _OWN, "a2c": "C.4, figure 12"}
"""Who is compared, and where the paper does so."""

_OVERLAP = f"{LABELS['dcc_overlap']} costs less than {LABELS['dcc']}"

NO_INTERVAL = (math.nan, math.nan)


def all_claims(studies: Studies) -> list[Claim]:
    """All claims that the rows there are decide."""
    return [
        *_scalability(studies["scalability"]),
        *_budget(studies["budget"]),
        *_initial(studies["initial"]),
        *_exponents(studies["exponents"]),
        *_gradients(studies["gradients"]),
        *_approximation(studies["approximation"]),
        *_best(studies["best"]),
        *_large(studies["large"]),
    ]


def _compare(
    name: str, words: str, paper: str, a: Json | None, b: Json | None, *, below: bool = True, margin: float = 0.0
) -> Iterator[Claim]:
    """Whether values a are below (or above) b, paired by environment; at least two pairs."""
    if a is None or b is None:
        return
    found = paired(a["values"], b["values"])
    if found["n"] > 1:
        low, high = found["ci95"]
        yield Claim(name, words, paper, found["mean"], (low, high), (high if below else -low) < margin)


def _metric(rows: Sequence[Json], metric: str, **arm: Any) -> Json | None:
    """A metric of the row whose arm has these values."""
    for row in rows:
        if all(row["arm"][name] == value for name, value in arm.items()):
            found: Json | None = row["metrics"].get(metric)
            return found
    return None


def _scalability(rows: Sequence[Json]) -> Iterator[Claim]:
    for n in _values(rows, "devices"):

        def cost(name: str, metric: str = "cost", n: int = n) -> Json | None:
            return _metric(rows, metric, devices=n, policy=LABELS[name])

        for arm, paper in _AGAINST_IQL.items():
            words = f"{LABELS[arm]} costs less than independent Q-learning at N = {n}"
            yield from _compare(f"scale-{arm}-iql-{n}", words, paper, cost(arm), cost("iql"))
        yield from _compare(
            f"scale-dcc_overlap-dcc-{n}", f"{_OVERLAP} at N = {n}", _OWN, cost("dcc_overlap"), cost("dcc")
        )
        words = f"DCC costs less than at K = 0 at N = {n}"
        yield from _compare(f"scale-dcc-never-{n}", words, "section 5.1", cost("dcc"), cost("never"))
        words = f"DCC costs less than the best symmetric threshold at N = {n}"
        yield from _compare(f"scale-dcc-threshold-{n}", words, _OWN, cost("dcc"), cost("threshold"))
        for arm, paper in _NETWORKS.items():
            words = f"DCC costs less than {LABELS[arm]} at N = {n}"
            yield from _compare(f"scale-dcc-{arm}-{n}", words, paper, cost("dcc"), cost(arm))
            words = f"{LABELS['dcc_overlap']} costs less than {LABELS[arm]} at N = {n}"
            yield from _compare(f"scale-dcc_overlap-{arm}-{n}", words, _OWN, cost("dcc_overlap"), cost(arm))
        words = f"a common cost brings independent Q-learning no more than {LITTLE:g} at N = {n}"
        common, own = cost("iql_common"), cost("iql")
        yield from _compare(f"scale-common-{n}", words, "C.4, figure 12", common, own, below=False, margin=LITTLE)
        words = f"never offloading costs less than independent Q-learning at N = {n}"
        if n >= 50:
            yield from _compare(f"scale-never-iql-{n}", words, "section 5.1", cost("never"), cost("iql"))
        words = f"DCC offloads less often than independent Q-learning at N = {n}"
        often = "offload_frequency"
        yield from _compare(f"scale-often-{n}", words, "figures 1(b), 10", cost("dcc", often), cost("iql", often))
        yield from _longer(n, *(cost(arm, often) for arm in ("dcc", "mappo", "mappo_long")))
        yield from _substitution(n, cost("dcc"), cost("dcc_lambda"), cost("dcc", "cpu_s"), cost("dcc_lambda", "cpu_s"))


def _longer(n: int, ours: Json | None, short: Json | None, long: Json | None) -> Iterator[Claim]:
    """Whether MAPPO's frequency comes nearer to DCC's when it learns for longer."""
    if ours is not None and short is not None and long is not None:
        apart = [
            by_seed([abs(a - b) for a, b in zip(found["values"], ours["values"], strict=False)])
            for found in (long, short)
        ]
        words = (
            f"with 6 times the steps MAPPO's offload frequency is nearer to DCC's at N = {n}: change of the distance"
        )
        yield from _compare(f"scale-longer-often-{n}", words, "C.3, figure 1(b)", *apart)


def _substitution(n: int, *metrics: Json | None) -> Iterator[Claim]:
    found = [metric for metric in metrics if metric is not None]
    if len(found) < 4:
        return
    cost, cost_lambda, cpu, cpu_lambda = found
    words = f"with lambda substituted, DCC costs no more at N = {n} (margin {NOT_WORSE:g})"
    yield from _compare(f"lambda-cost-{n}", words, "app. E, left open", cost_lambda, cost, margin=NOT_WORSE)
    ratios = estimate([a / b for a, b in zip(cpu["values"], cpu_lambda["values"], strict=True)])
    if ratios["n"] > 1:
        words = f"... and takes at most 1 / {SPEED_UP:g} of the CPU time: times as fast at N = {n}"
        low, high = ratios["ci95"]
        yield Claim(f"lambda-cpu-{n}", words, "app. E, left open", ratios["mean"], (low, high), low >= SPEED_UP)


def _budget(rows: Sequence[Json]) -> Iterator[Claim]:
    for n in _values(rows, "devices"):
        for slots in sorted(_values(rows, "slots")):
            arm = {"devices": n, "slots": slots}
            ours, theirs = (_metric(rows, "cost", policy=LABELS[name], **arm) for name in ("dcc", "iql"))
            words = f"DCC costs less than independent Q-learning after {slots:,} slots at N = {n}"
            yield from _compare(f"budget-{slots}-{n}", words, "figures 1, 9", ours, theirs)


def _initial(rows: Sequence[Json]) -> Iterator[Claim]:
    for n in _values(rows, "devices"):

        def cost(label: str, update: int, n: int = n) -> Json | None:
            return _metric(rows, "cost", **{"devices": n, "first constraint": label, "updates": update})

        naive, informed = _values(rows, "first constraint")
        last = max(_values(rows, "updates"))
        way = [_mean([cost(label, update) for update in range(last + 1)]) for label in (informed, naive)]
        words = (
            f"from an informed constraint DCC costs less on its way, mean of all iterations, than from K = 0 at N = {n}"
        )
        yield from _compare(f"initial-way-{n}", words, "section 5.3, figures 2, 3", *way)
        words = f"after {last} updates it costs no more (margin {NOT_WORSE:g}) at N = {n}"
        end = cost(informed, last), cost(naive, last)
        yield from _compare(f"initial-end-{n}", words, "section 5.3, figure 2", *end, margin=NOT_WORSE)


def _exponents(rows: Sequence[Json]) -> Iterator[Claim]:
    alphas = sorted(_values(rows, "alpha"), key=float)
    for n in _values(rows, "devices"):
        for name in ("dcc", "iql"):
            arm = {"devices": n, "policy": LABELS[name]}
            ends = [_metric(rows, "offload_frequency", alpha=alpha, **arm) for alpha in (alphas[-1], alphas[0])]
            words = f"{LABELS[name]} offloads less often at alpha = {alphas[-1]} than at {alphas[0]}, N = {n}"
            yield from _compare(f"exponent-{name}-{n}", words, "section 5.4, figure 4", *ends)


def _gradients(rows: Sequence[Json]) -> Iterator[Claim]:
    """Met where it holds in every environment; the mean and its interval are over them."""

    def everywhere(name: str, words: str, metric: str, holds: Callable[[float], bool]) -> Iterator[Claim]:
        for row in rows:
            found, alpha = row["metrics"][metric], row["arm"]["alpha"]
            interval = _interval(found)
            met = all(holds(value) for value in found["values"])
            yield Claim(f"{name}-{alpha}", f"{words}, alpha = {alpha}", "section 5.5", found["mean"], interval, met)

    yield from everywhere(
        "gradient-local", "the local derivative is negative: the largest of a system", "largest_local", lambda v: v < 0
    )
    yield from everywhere(
        "gradient-coupling", "the coupling is positive: the smallest of a system", "smallest_coupling", lambda v: v > 0
    )
    yield from everywhere(
        "gradient-lambda",
        "the right local derivative is minus the multiplier: largest relative error",
        "lambda_error",
        lambda v: v < _NEARLY,
    )
    yield from everywhere(
        "gradient-slope",
        "the coupling is f' times the frequency: largest relative error",
        "coupling_error",
        lambda v: v < _NEARLY,
    )
    yield from everywhere(
        "gradient-sides",
        "left and right local derivatives agree: largest relative difference",
        "left_right_local",
        lambda v: v < _NEARLY,
    )


def _approximation(rows: Sequence[Json]) -> Iterator[Claim]:
    for row in rows:
        alpha, law, metrics = row["arm"]["alpha"], row["arm"]["start law"], row["metrics"]
        where = f"start law {law}" if law != "average" else "average criterion"
        if float(alpha) == 1.0:
            words = f"for a linear penalty the approximation is exact, {where}: relative error"
            met = all(value < _EXACT for value in metrics["error"]["values"])
            name = f"approximation-exact-{law}"
            yield Claim(name, words, "lemma 1, C.5", metrics["error"]["mean"], _interval(metrics["error"]), met)
        else:
            share = metrics["within_bound"]
            words = f"for alpha = {alpha} the error is within the bound, {where}: share of systems"
            name = f"approximation-bound-{alpha}-{law}"
            yield Claim(name, words, "lemma 1, C.5", share["mean"], _interval(share), share["mean"] == 1.0)


def _best(rows: Sequence[Json]) -> Iterator[Claim]:
    for row in rows:
        n, policy, found = row["arm"]["devices"], row["arm"]["policy"], row["metrics"]["above_best_F"]
        if found["n"] > 1:
            words = f"F(K) of {policy} is within {QUALITY:g} of the best constraints at N = {n}: above it by"
            interval = _interval(found)
            yield Claim(f"best-{policy}-{n}", words, _OWN, found["mean"], interval, interval[1] <= QUALITY)
    for n in _values(rows, "devices"):
        theirs = _metric(rows, "above_best_cost", devices=n, policy=LABELS["iql"])
        for arm, paper in _AGAINST_IQL.items():
            words = f"{LABELS[arm]} costs less than independent Q-learning at N = {n}"
            ours = _metric(rows, "above_best_cost", devices=n, policy=LABELS[arm])
            yield from _compare(f"best-{arm}-iql-{n}", words, paper, ours, theirs)
        ours, theirs = (_metric(rows, "above_best_cost", devices=n, policy=LABELS[a]) for a in ("dcc_overlap", "dcc"))
        yield from _compare(f"best-dcc_overlap-dcc-{n}", f"{_OVERLAP} at N = {n}", _OWN, ours, theirs)


def _large(rows: Sequence[Json]) -> Iterator[Claim]:
    if len(rows) < 2:
        return
    few, many = rows[0], rows[-1]
    ratio = many["metrics"]["cpu_per_device"]["mean"] / few["metrics"]["cpu_per_device"]["mean"]
    words = f"a device costs no more CPU time among {many['arm']['devices']} than among {few['arm']['devices']}: times as much"
    yield Claim("large-per-device", words, _OWN, ratio, NO_INTERVAL, ratio <= SAME_COST)
    hours = many["metrics"]["wall"]["mean"] / 3600.0
    slots = many["metrics"]["slots"]["mean"]
    words = f"{many['arm']['devices']} devices learn for {slots:,.0f} slots each within an hour: hours"
    yield Claim("large-hour", words, _OWN, hours, NO_INTERVAL, hours <= 1.0)


def _interval(found: Json) -> tuple[float, float]:
    low, high = found["ci95"]
    return NO_INTERVAL if low is None else (low, high)


def _mean(metrics: Sequence[Json | None]) -> Json:
    """The mean of several metrics in each environment."""
    values = [metric["values"] for metric in metrics if metric is not None]
    return by_seed([sum(found) / len(found) for found in zip(*values, strict=False)])


def _values(rows: Sequence[Json], name: str) -> list[Any]:
    return list(dict.fromkeys(row["arm"][name] for row in rows))
