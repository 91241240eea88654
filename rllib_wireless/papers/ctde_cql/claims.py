"""What the paper claims, beside what was measured: differences between two policies, paired by training seed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rllib_wireless.papers.ctde_cql.learning import Arm, informed
from rllib_wireless.papers.ctde_cql.setup import BASELINES, EXPLORED, LABELS, Scale
from rllib_wireless.papers.experiment import Claim, Json
from rllib_wireless.papers.intervals import paired
from rllib_wireless.papers.studies import claim_of

_OWN = "not in the summary"
_FLAT = 0.02
"""Scores that differ by less count as equal."""

_FEW = 20_000
"""Joint rows below which the summary finds learning to fail."""


@dataclass(frozen=True)
class Contrast:
    """A claim that one policy's metric lies above another's times a factor.

    Args:
        id: Short name.
        words: The claim.
        higher: The policy whose metric should be higher.
        lower: The other one.
        metric: The metric.
        factor: What the other's metric is multiplied with.
        least: What the lower bound of the difference should be above.
        most: What the upper bound should be below.
        paper: Where the claim is made.
    """

    id: str
    words: str
    higher: str
    lower: str
    metric: str = "score"
    factor: float = 1.0
    least: float = 0.0
    most: float = math.inf
    paper: str = "summary"

    def claim(self, policies: Json) -> Claim | None:
        """What the policies measured say of it; None with fewer than two seeds of either."""
        if self.higher not in policies or self.lower not in policies:
            return None
        high, low = (policies[name]["metrics"][self.metric]["values"] for name in (self.higher, self.lower))
        difference = paired(high, [self.factor * value for value in low])
        return claim_of(self.id, self.words, self.paper, difference, self.least, self.most)


def all_claims(s: Scale, policies: Json) -> list[Claim]:
    """The claims of which both policies have two seeds or more."""
    return [claim for contrast in contrasts(s) if (claim := contrast.claim(policies)) is not None]


def contrasts(s: Scale) -> list[Contrast]:
    """All claims."""
    return [*_paradigms(s), *_told(s), *_baselines(s), *_equal(s), *_data(s), *_settings(s)]


def _paradigms(s: Scale) -> Iterator[Contrast]:
    c, ctde, i = (Arm(name, "sac", s.rows).name for name in ("centralized", "ctde", "independent"))
    yield Contrast("centralized-ctde", "centralized training scores higher than CTDE", c, ctde)
    yield Contrast("ctde-independent", "CTDE scores higher than independent training", ctde, i)
    yield Contrast("ctde-98", "CTDE has at least 98 % of the score of centralized training", ctde, c, factor=0.98)
    yield Contrast("centralized-tail", "centralized training has the higher tail rate", c, ctde, "tail_rate")
    dqn = Arm("ctde_dqn", "sac", s.rows).name
    yield Contrast("dqn-sum", "with DQN, CTDE has a higher sum rate than with SAC", dqn, ctde, "sum_rate")
    yield Contrast("sac-tail", "with SAC, CTDE has a higher tail rate than with DQN", ctde, dqn, "tail_rate")
    yield Contrast("sac-score", "with SAC, CTDE has a higher score than with DQN", ctde, dqn)
    bc = Arm("bc", "sac", s.rows).name
    yield Contrast("ctde-bc", "CTDE scores higher than behaviour cloning of the same data", ctde, bc, paper=_OWN)
    yield Contrast(
        "ctde-online",
        "CTDE scores no less than the online SAC that made its data (margin .02)",
        ctde,
        "sac-default",
        least=-_FLAT,
        paper=_OWN,
    )
    dense = [Arm(name, "sac", s.rows, "dense").name for name in ("centralized", "ctde", "independent")]
    words = "under strong interference, centralized training scores higher than CTDE"
    yield Contrast("dense-centralized-ctde", words, dense[0], dense[1], paper="summary, next checks")
    words = "under strong interference, CTDE scores higher than independent training"
    yield Contrast("dense-ctde-independent", words, dense[1], dense[2], paper="summary, next checks")


def _told(s: Scale) -> Iterator[Contrast]:
    for area, alone, told in (("500 m", "default", "told"), ("100 m", "dense", "dense_told")):
        own, shared = (Arm("ctde", "random", s.rows, world).name for world in (alone, told))
        central = Arm("centralized", "random", s.rows, alone).name
        words = f"{area}: CTDE scores higher where access points tell each other what they measured"
        yield Contrast(f"told-{told}", words, shared, own, paper=_OWN)
        words = f"{area}: told, CTDE has at least 98 % of the score of centralized training on the same data"
        yield Contrast(f"told-98-{told}", words, shared, central, factor=0.98, paper=_OWN)


def _baselines(s: Scale) -> Iterator[Contrast]:
    ctde = Arm("ctde", "sac", s.rows).name
    for rule in BASELINES:
        words = f"CTDE scores at least 15 % higher than {LABELS[rule]}"
        yield Contrast(f"15-{rule}", words, ctde, f"{rule}-default", factor=1.15)
    for rule in BASELINES:
        words = f"CTDE scores higher than {LABELS[rule]}"
        yield Contrast(f"above-{rule}", words, ctde, f"{rule}-default", paper=_OWN)


def _equal(s: Scale) -> Iterator[Contrast]:
    """What is known to all is what ITLinQ reads."""
    central = informed(s, "centralized_dqn", "random", "powers").name
    told, own = (informed(s, "ctde_dqn", EXPLORED, world).name for world in ("powers_told", "powers"))
    yield from _above_itlinq("500 m", "default", central, told)
    words = "500 m: centralized training scores higher with the powers than with SINRs alone"
    sinr = informed(s, "centralized_dqn", "random", "default").name
    yield Contrast("equal-powers", words, central, sinr, paper=_OWN)
    words = f"500 m: trained as long, centralized training with SINRs alone scores higher than {LABELS['itlinq']}"
    yield Contrast("equal-sinr", words, sinr, "itlinq-default", paper=_OWN)
    words = "500 m: told all powers, CTDE has at least 98 % of the score of centralized training"
    yield Contrast("equal-98", words, told, central, factor=0.98, paper=_OWN)
    words = "500 m: CTDE scores higher told all powers than with those at its own users alone"
    yield Contrast("equal-told", words, told, own, paper=_OWN)
    words = "500 m: with the powers at its own users alone, CTDE scores higher than a threshold on the own PF ratio"
    yield Contrast("equal-own", words, own, "local_threshold-default", paper=_OWN)
    central = informed(s, "centralized_dqn", "random", "dense_powers").name
    told = informed(s, "ctde_dqn", EXPLORED, "dense_powers_told").name
    yield from _above_itlinq("100 m", "dense", central, told)


def _above_itlinq(area: str, world: str, central: str, told: str) -> Iterator[Contrast]:
    """How far those who know as much as ITLinQ are above it."""
    for factor, words in ((1.15, "at least 15 % higher than"), (1.0, "higher than")):
        for kind, who, name in (
            ("central", "centralized training with all powers", central),
            ("told", "CTDE told all powers", told),
        ):
            yield Contrast(
                f"equal-{kind}-{100 * factor - 100:.0f}-{world}",
                f"{area}: {who} scores {words} {LABELS['itlinq']}",
                name,
                f"itlinq-{world}",
                factor=factor,
                paper=_OWN,
            )


def _data(s: Scale) -> Iterator[Contrast]:
    sac, dqn, random = (Arm("ctde", data, s.rows).name for data in ("sac", "dqn", "random"))
    yield Contrast("data-sac-dqn", "CTDE scores higher on data of online SAC than of online DQN", sac, dqn)
    yield Contrast("data-dqn-random", "CTDE scores higher on data of online DQN than of the random walk", dqn, random)
    yield Contrast("data-sac-random", "CTDE scores higher on data of online SAC than of the random walk", sac, random)
    sac, random = (Arm("centralized", data, s.rows).name for data in ("sac", "random"))
    words = "centralized training scores higher on data of online SAC than of the random walk"
    yield Contrast("data-centralized-sac-random", words, sac, random)
    if len(s.sizes) > 1:
        yield from _sizes(s)


def _sizes(s: Scale) -> Iterator[Contrast]:
    enough, most = s.sizes[-2:]
    large = Arm("ctde", "sac", enough).name
    for rows in s.sizes[:-2]:
        if rows < _FEW:
            words = f"{rows:,} joint rows give a lower score than {enough:,}"
            yield Contrast(f"size-{rows}", words, large, Arm("ctde", "sac", rows).name)
    words = f"{most:,} joint rows give the same score as {enough:,} (within {_FLAT})"
    yield Contrast("size-flat", words, Arm("ctde", "sac", most).name, large, least=-_FLAT, most=_FLAT)


def _settings(s: Scale) -> Iterator[Contrast]:
    low, high = Arm("ctde", "sac", s.rows, "lambda_0.5").name, Arm("ctde", "sac", s.rows, "lambda_0.9").name
    yield Contrast("lambda-sum", "lambda = .5 gives a higher sum rate than .9", low, high, "sum_rate")
    yield Contrast("lambda-tail", "lambda = .9 gives a higher tail rate than .5", high, low, "tail_rate")
    for name in ("ctde", "centralized"):
        one, none, ten = (Arm(name, "sac", s.rows, alpha=alpha) for alpha in (1.0, 0.0, 10.0))
        words = f"{LABELS[name]}: alpha = 1 scores higher than 0"
        yield Contrast(f"alpha-{name}", words, one.name, none.name)
        words = f"{LABELS[name]}: checkpoints differ more with alpha = 10 than with 1"
        yield Contrast(f"alpha-oscillation-{name}", words, ten.name, one.name, "validation_spread")
