"""What the paper claims, and what this project set itself, beside what was measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rllib_wireless.papers.experiment import Claim, Json
from rllib_wireless.papers.fedmorl.setup import LABELS, MARGINS, REFERENCE, SOURCE, VARIANTS
from rllib_wireless.papers.intervals import paired

_OWN = "not in the paper"


@dataclass(frozen=True)
class Comparison:
    """A policy against another in one metric.

    Args:
        metric: The metric.
        other: Whom it is compared with.
        side: Where its value should lie.
        margin: By how much it may miss that.
        paper: Where the paper says so.
    """

    metric: str
    other: str
    side: Literal["above", "below"]
    margin: float
    paper: str

    @property
    def id(self) -> str:
        return f"{self.other}-{self.metric}"

    def words(self, policy: str) -> str:
        relation = f"not {'below' if self.side == 'above' else 'above'}" if self.margin else self.side
        margin = f" (margin {self.margin:g})" if self.margin else ""
        return f"{LABELS[policy]} is {relation} {LABELS[self.other]} in {_NAMES[self.metric]}{margin}"

    def slack(self, interval: tuple[float, float]) -> float:
        """How far the interval's worse end lies on the right side; the claim is met where this is positive."""
        return (interval[0] if self.side == "above" else -interval[1]) + self.margin


_NAMES = {
    "throughput_ratio": "throughput",
    "short_term_fairness": "short-term fairness",
    "collision_rate": "collision rate",
    "mean_delay_ms": "mean delay",
}

COMPARISONS = (
    Comparison("throughput_ratio", REFERENCE, "above", MARGINS["throughput_ratio"], "section 5.2, figure 1(a)"),
    Comparison("short_term_fairness", REFERENCE, "above", MARGINS["short_term_fairness"], _OWN),
    Comparison("collision_rate", REFERENCE, "below", 0.01, "section 5.2, figure 1(c)"),
    Comparison("throughput_ratio", SOURCE, "above", 0.0, "section 5.2, figure 1(a)"),
    Comparison("short_term_fairness", SOURCE, "above", 0.0, _OWN),
    Comparison("collision_rate", SOURCE, "below", 0.0, "section 5.2"),
    Comparison("mean_delay_ms", SOURCE, "below", 0.0, "section 5.2, figure 1(b)"),
    Comparison("throughput_ratio", "ac_vi", "above", 0.0, "figure 1, caption"),
    Comparison("throughput_ratio", "ac_vo", "above", 0.0, "figure 1, caption"),
)


PROBE = {"8": 0.909, "14": 0.898}
"""Throughput, at about AC_BE's fairness, of a tabular planner with the paper's observation, whose temperature and delay weight
were chosen in the simulator: what networks that are learned and tuned offline are held against."""


def all_claims(curves: Json) -> list[Claim]:
    """Each comparison at every N together, `...-every`, and then at each N.

    A claim about every N is met where it is met at each N, and shows the N that is the farthest from it.
    """
    summaries: list[Claim] = []
    single: list[Claim] = []
    for policy in VARIANTS:
        for comparison in COMPARISONS:
            by_n = dict(_at_each(curves, policy, comparison))
            if not by_n:
                continue
            single += by_n.values()
            worst = min(by_n, key=lambda n: comparison.slack(by_n[n].interval))
            held = sum(claim.met for claim in by_n.values())
            summaries.append(
                Claim(
                    f"{policy}-{comparison.id}-every",
                    f"{comparison.words(policy)}: at {held} of {len(by_n)} N; worst at N = {worst}",
                    comparison.paper,
                    by_n[worst].measured,
                    by_n[worst].interval,
                    held == len(by_n),
                )
            )
        single += _against_probe(curves, policy)
    return [*summaries, *single]


def _against_probe(curves: Json, policy: str) -> Iterator[Claim]:
    for n, target in PROBE.items():
        reached = curves[policy].get(n, {}).get("throughput_ratio")
        if reached is not None and reached["n"] > 1:
            interval = (reached["ci95"][0] - target, reached["ci95"][1] - target)
            margin = MARGINS["throughput_ratio"]
            words = f"{LABELS[policy]} at N = {n} has no less throughput than a tabular planner tuned in the simulator, {target} (margin {margin})"
            yield Claim(f"{policy}-probe-{n}", words, _OWN, reached["mean"] - target, interval, interval[0] > -margin)


def _at_each(curves: Json, policy: str, comparison: Comparison) -> Iterator[tuple[str, Claim]]:
    for n, point in curves[policy].items():
        other = curves[comparison.other].get(n)
        if other is None:
            continue
        difference = paired(point[comparison.metric]["values"], other[comparison.metric]["values"])
        if difference["n"] < 2:
            continue
        interval = (difference["ci95"][0], difference["ci95"][1])
        words = f"{comparison.words(policy)} at N = {n}"
        met = comparison.slack(interval) > 0
        yield n, Claim(f"{policy}-{comparison.id}-{n}", words, comparison.paper, difference["mean"], interval, met)
