"""What was to be shown by the studies, beside what they show: differences between two arms, paired by training seed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rllib_wireless.papers.experiment import Claim, Json
from rllib_wireless.papers.fedmorl.setup import Scale
from rllib_wireless.papers.intervals import paired
from rllib_wireless.papers.studies import claim_of

_LOSS = 0.05  # nats a row, by which models may differ and still count as alike


@dataclass(frozen=True)
class Contrast:
    """A claim that one arm's metric is above another's by more than a number.

    Args:
        study: The study.
        higher: The arm whose metric should be higher.
        lower: The other one.
        metric: The metric.
        least: What the lower bound of the difference should be above.
        words: The claim.
        paper: Where the paper says so.
        decades: Whether the difference is of decimal logarithms, for what grows without bound.
    """

    study: str
    higher: str
    lower: str
    metric: str
    least: float
    words: str
    paper: str = "not in the paper"
    decades: bool = False


def study_claims(s: Scale, tables: Json) -> list[Claim]:
    """The contrasts of which both arms have two seeds or more."""
    claims = []
    for contrast in _contrasts(s):
        rows = {row["name"]: row["metrics"] for row in tables.get(contrast.study, [])}
        pair = [rows.get(name, {}).get(contrast.metric) for name in (contrast.higher, contrast.lower)]
        if pair[0] is None or pair[1] is None:
            continue
        high, low = (_decades(p["values"]) if contrast.decades else p["values"] for p in pair)
        name = f"study-{contrast.study}-{contrast.higher}-{contrast.lower}-{contrast.metric}"
        claim = claim_of(name, contrast.words, contrast.paper, paired(high, low), contrast.least)
        if claim is not None:
            claims.append(claim)
    return claims


def _contrasts(s: Scale) -> Iterator[Contrast]:
    argues = "sections 1 and 6"
    for rows in s.shards:
        of = f"with {rows:,} rows a client"
        for metric, words, (high, low) in (
            ("outcome_loss", "local models predict fresh outcomes worse than federated ones", ("nothing", "models")),
            ("model_loss", "local models predict fresh rows worse than federated ones", ("nothing", "models")),
            ("throughput_ratio", "federated models give more throughput than local ones", ("models", "nothing")),
            ("short_term_fairness", "federated models give more fairness than local ones", ("models", "nothing")),
        ):
            yield Contrast("federation", f"{high}_{rows}", f"{low}_{rows}", metric, 0.0, f"{of}, {words}", argues)
        near = f"{of}, federated models predict outcomes within {_LOSS} nats as well as a pooled one"
        yield Contrast("federation", f"data_{rows}", f"models_{rows}", "outcome_loss", -_LOSS, near)
        for metric, words in (("throughput_ratio", "throughput"), ("short_term_fairness", "fairness")):
            more = f"{of}, self-play in federated models gives more {words} than in local ones"
            yield Contrast("federation", f"play_models_{rows}", f"play_nothing_{rows}", metric, 0.0, more, argues)
        better = f"{of}, federated models give more throughput than federated policies"
        yield Contrast("federation", f"models_{rows}", f"policies_{rows}", "throughput_ratio", 0.0, better, argues)
    for kind in ("contention", "traffic", "backoff", "size"):
        for metric, what in (("outcome_loss", "outcomes"), ("model_loss", "rows")):
            words = f"clients that differ in {kind}: local models predict fresh {what} worse than federated ones"
            pair = (f"{kind}_nothing", f"{kind}_models")
            yield Contrast("heterogeneous", *pair, metric, 0.0, words, "section 5.2, announced")
    for rule in ("median", "trimmed_mean", "krum"):
        words = f"one poisoned client of eight costs `{rule}` less than {_LOSS} nats of the outcome"
        yield Contrast("attack", f"{rule}_honest", f"{rule}_poisoned", "outcome_loss", -_LOSS, words)
    words = "one poisoned client of eight multiplies the loss of outcomes under `fedavg` by more than ten (decades)"
    yield Contrast("attack", "fedavg_poisoned", "fedavg_honest", "outcome_loss", 1.0, words, decades=True)


def _decades(values: Sequence[float | None]) -> list[float | None]:
    return [math.log10(v) if v is not None and v > 0 else None for v in values]
