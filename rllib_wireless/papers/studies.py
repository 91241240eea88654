"""What the studies of several papers have in common: rows of tables, seeds that are done, and claims about intervals."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from rllib_wireless.papers.experiment import Claim, Json


class Named(Protocol):
    """A way to learn, with a unique name without the seed."""

    @property
    def name(self) -> str: ...


A = TypeVar("A", bound=Named)


@dataclass(frozen=True)
class Row(Generic[A]):
    """A row of a study's table.

    Args:
        shown: What the table says of it, by column.
        policy: An arm; or the name of a rule or of an online learner, with its world.
    """

    shown: Mapping[str, str]
    policy: A | str

    @property
    def name(self) -> str:
        return self.policy if isinstance(self.policy, str) else self.policy.name


def tables_of(studies: Mapping[str, Sequence[Row[Any]]], policies: Json) -> Json:
    """For each study a row a policy, as far as there are results."""
    return {
        study: [
            {"name": row.name, "arm": dict(row.shown), "metrics": policies[row.name]["metrics"]}
            for row in rows
            if row.name in policies
        ]
        for study, rows in studies.items()
    }


def seeds_done(results: Mapping[str, Json], name: str, count: int, *, of_rule: bool) -> list[Json]:
    """What was measured of a policy with seeds 0, 1, ..., up to the first that is not done.

    Args:
        results: Results of the cells by name.
        name: The policy's name.
        count: Most seeds.
        of_rule: Whether it is a rule, `RULE-WORLD`; all rules of a world are in one cell.
    """
    if of_rule:
        rule, world = name.split("-")
        cells = (results.get(f"rules-{world}_{seed}", {}).get(rule) for seed in range(count))
    else:
        cells = (results.get(f"{name}_{seed}") for seed in range(count))
    return [cell for cell in itertools.takewhile(bool, cells) if cell]


def claim_of(id: str, words: str, paper: str, found: Json, least: float = 0.0, most: float = math.inf) -> Claim | None:
    """That an estimate lies between two numbers with its whole 95 % interval; None of fewer than two seeds.

    Args:
        id: Short name.
        words: The claim.
        paper: Where the claim is made.
        found: The estimate, as `papers.intervals` makes it.
        least: What the lower bound should be above.
        most: What the upper bound should be below.
    """
    if found["n"] < 2:
        return None
    lower, upper = found["ci95"]
    return Claim(id, words, paper, found["mean"], (lower, upper), lower > least and upper < most)


def every_claim(content: Json) -> list[Json]:
    """The claims to show, where those are all."""
    return list(content["claims"])
