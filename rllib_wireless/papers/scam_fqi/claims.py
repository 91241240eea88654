"""What the paper claims, beside what was measured: sums of policies' metrics with weights, paired by training seed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rllib_wireless.papers.experiment import Claim, Json
from rllib_wireless.papers.intervals import estimate
from rllib_wireless.papers.scam_fqi.setup import CQL, FIGURE_1, SELECTED, SHARING, Scale
from rllib_wireless.papers.scam_fqi.studies import REFERENCE, arm
from rllib_wireless.papers.studies import claim_of

_PAPER, _OWN = "section 4, comments", "not in the paper"
_MARGIN = 1.03
"""A policy takes no longer than another if it takes at most 3 % longer."""

_PRODUCTS = {"different": "3 different products", "same": "5 products of the same kind"}


@dataclass(frozen=True)
class Contrast:
    """A claim that a sum of metrics is positive, as of what should be longer less what should be shorter.

    Args:
        id: Short name.
        words: The claim.
        weights: What the metric of each policy counts in the sum.
        metric: The metric.
        paper: Where the claim is made.
    """

    id: str
    words: str
    weights: Mapping[str, float]
    metric: str = "makespan"
    paper: str = _PAPER

    def claim(self, policies: Json) -> Claim | None:
        """What the policies measured say of it; None where there are no two seeds of all of them."""
        if not self.weights.keys() <= policies.keys():
            return None
        values = {name: policies[name]["metrics"][self.metric]["values"] for name in self.weights}
        pairs = zip(*values.values(), strict=False)  # seeds that not all policies have are left out
        sums = estimate([sum(w * v for w, v in zip(self.weights.values(), seed, strict=True)) for seed in pairs])
        return claim_of(self.id, self.words, self.paper, sums)


def all_claims(s: Scale, policies: Json) -> list[Claim]:
    """The claims of whose policies there are two seeds or more."""
    return [claim for contrast in contrasts(s) if (claim := contrast.claim(policies)) is not None]


def contrasts(s: Scale) -> list[Contrast]:
    """All claims."""
    return [c for world in FIGURE_1 for c in (*_sharing(s, world), *_rules(s, world))] + [*_leaves(s), *_studies(s)]


def _shorter(id: str, words: str, longer: str, shorter: str, metric: str = "makespan", paper: str = _PAPER) -> Contrast:
    return Contrast(id, words, {longer: 1.0, shorter: -1.0}, metric, paper)


def _sharing(s: Scale, world: str) -> Iterator[Contrast]:
    """More sharing, compressed sharing, over-sharing."""
    of = f"{_PRODUCTS[world]}: "
    name = {sharing: arm(s, world, sharing).name for sharing in s.sharing}
    label = {sharing: SHARING[sharing].label for sharing in s.sharing}

    def both(*sharings: str) -> bool:
        return set(sharings) <= name.keys()

    for form in "cf":
        for less, more in (("own", f"1{form}"), (f"1{form}", f"2{form}"), (f"2{form}", f"3{form}")):
            if both(less, more):
                words = f"{of}{label[more]} is shorter than {label[less]}"
                yield _shorter(f"more-{world}-{less}-{more}", words, name[less], name[more])
        if both(f"1{form}", f"all_{form}"):
            words = f"{of}over-sharing: {label[f'all_{form}']} is longer than {label[f'1{form}']}"
            yield _shorter(f"over-{world}-{form}", words, name[f"all_{form}"], name[f"1{form}"])
    for ball in ("1", "2", "3", "all_"):
        full, compressed = f"{ball}f", f"{ball}c"
        if both(full, compressed):
            words = f"{of}{label[compressed]} is shorter than {label[full]}, mean over the first iterations"
            yield _shorter(f"early-{world}-{ball}", words, name[full], name[compressed], "early_makespan")
            words = f"{of}{label[compressed]} is no longer than {label[full]} in the end (margin 3 %)"
            yield Contrast(f"harm-{world}-{ball}", words, {name[full]: _MARGIN, name[compressed]: -1.0})
    if both(SELECTED, REFERENCE):
        for fixed in ("own", *(f"{ball}{form}" for form in "cf" for ball in ("1", "2", "3", "all_"))):
            if both(fixed):
                words = f"{of}the selected graph is no longer than {label[fixed]} (margin 3 %)"
                weights = {name[fixed]: _MARGIN, name[SELECTED]: -1.0}
                yield Contrast(f"selected-{world}-{fixed}", words, weights, paper=_OWN)


def _rules(s: Scale, world: str) -> Iterator[Contrast]:
    learned = arm(s, world).name
    for rule, words in (
        ("uniform", "the uniform policy of the data"),
        ("shortest_path", "shortest paths"),
        ("congestion_aware", "the privileged rule that knows all occupied units"),
    ):
        said = f"{_PRODUCTS[world]}: {SHARING[REFERENCE].label} is shorter than {words}"
        yield _shorter(f"rule-{world}-{rule}", said, f"{rule}-{world}", learned, paper=_OWN)
    if CQL in s.sharing:
        words = f"{_PRODUCTS[world]}: {SHARING[REFERENCE].label} is shorter than {SHARING[CQL].label}"
        yield _shorter(f"rule-{world}-cql", words, arm(s, world, CQL).name, learned, paper=_OWN)
    words = f"{_PRODUCTS[world]}: greedy decisions get stuck more often than .15-greedy ones"
    yield Contrast(f"greedy-{world}", words, {learned: 1.0}, "greedy_excess_livelock", _OWN)


def _leaves(s: Scale) -> Iterator[Contrast]:
    """Whether what is shared helps or harms with small leaves and with large ones."""
    if "own" not in s.leaf_sharing:
        return
    small, large = min(s.leaves), max(s.leaves)
    own = [arm(s, "same", "own", leaf).name for leaf in (small, large)]
    for sharing in s.leaf_sharing:
        if sharing == "own":
            continue
        label, shared = SHARING[sharing].label, [arm(s, "same", sharing, leaf).name for leaf in (small, large)]
        words = f"leaves of {small}: {label} is longer than own state only"
        yield _shorter(f"leaf-small-{sharing}", words, shared[0], own[0], paper=_OWN)
        words = f"leaves of {large}: {label} is shorter than own state only"
        yield _shorter(f"leaf-large-{sharing}", words, own[1], shared[1], paper=_OWN)
        words = f"what {label} adds to own state only is less with leaves of {large} than of {small}"
        weights = {shared[0]: 1.0, own[0]: -1.0, shared[1]: -1.0, own[1]: 1.0}
        yield Contrast(f"leaf-mends-{sharing}", words, weights, paper=_OWN)


def _studies(s: Scale) -> Iterator[Contrast]:
    if not s.studies:
        return
    for world in FIGURE_1:
        zero, returns = (arm(s, world, start=start).name for start in ("zero", "monte_carlo"))
        words = f"{_PRODUCTS[world]}: shorter in the first iterations from recorded returns than from zero"
        yield _shorter(f"start-{world}", words, zero, returns, "early_makespan", _OWN)
        words = f"{_PRODUCTS[world]}: shorter where defers are forced than where they may be chosen"
        yield _shorter(f"defer-{world}", words, arm(s, f"{world}_always").name, arm(s, world).name, paper=_OWN)
