"""Configuration of the production plant: everything the paper leaves open is a field with its source."""

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from rllib_wireless.configuration import CONFIG, field
from rllib_wireless.envs.sharing import SharingConfig

GENERATED = "generated"
"""The plant that is drawn instead of read."""

MAX_PRODUCTS = 64

_OF_GENERATOR = (
    "rows",
    "columns",
    "dropped_links",
    "num_operations",
    "ability_share",
    "operation_ticks",
    "kinds",
    "plant_seed",
)
_ITEM = re.compile(r"\s*(\w+)\s*(?:\*\s*(\d+))?\s*")
_RELATED = "related code; notes, section 1.2"

Ticks = Annotated[int, Field(ge=1, le=10_000)]


@dataclass(frozen=True, config=CONFIG)
class ProductionSchedulingConfig(SharingConfig):
    """Units of a plant route products (SCAM-FQI, section 4)."""

    owner: ClassVar[str] = "production_scheduling"

    plant: str = field(
        "grid_4x5",
        "The plant: grid_4x5, grid_3x3, the path of a .toml file, or generated.",
        source="figure 1: 4x5; " + _RELATED,
        min_length=1,
    )
    products: str = field(
        "A,B,C",
        "Kinds of products to make, as in A,B,C or A*5; each product is a stream of its own.",
        source="figure 1: three different or five alike; " + _RELATED,
    )
    clock: Literal["parallel", "serial"] = field(
        "parallel",
        "All units work at the same time; or they take turns, each of which is a tick where there is a product, as published.",
        source="not given in the paper; " + _RELATED,
    )
    sharing_radius: int | None = field(
        1,
        "Units so many links away are observed; none: all of them. The paper's d is this number plus 1.",
        unit="links",
        source="section 4: closer than d",
        ge=0,
    )
    observation: Literal["full", "compressed"] = field(
        "compressed",
        "What a unit sees of others: product and remaining operations, or only whether there is a product.",
        source="section 4 has both",
    )
    sharing_graph: str | None = field(
        None, "JSON file that says who sees whom, in place of sharing_radius.", source="section 3: any graph"
    )
    defer: Literal["always", "forced"] = field(
        "always",
        "When a unit may keep a product for a while: always, or only if it can move it nowhere.",
        source="not given in the paper; " + _RELATED,
    )
    reward_until: Literal["finish", "episode"] = field(
        "finish",
        "A decision about a product that does not come back costs the time until this product is finished, or all are.",
        source="section 4: until production",
    )
    operation_bonus: float = field(
        0.0,
        "Shaping: reward of each unit that waits for a product to come back, when an operation on it begins.",
        source="25 or 50 in related code, nothing in the paper",
        ge=0.0,
    )
    defer_penalty: float = field(
        0.0,
        "Shaping: subtracted from the reward of a defer.",
        source="500 in related code, nothing in the paper",
        ge=0.0,
    )
    max_decisions: int = field(
        2000, "Decisions of all units after which an episode is truncated.", source=_RELATED, ge=1, le=10**9
    )
    rows: int = field(3, "Generated plant: rows of the grid.", source="own choice", ge=1, le=30)
    columns: int = field(4, "Generated plant: columns of the grid.", source="own choice", ge=2, le=30)
    dropped_links: float = field(
        0.1,
        "Generated plant: share of the grid's links that are missing; those that hold the plant together stay.",
        source="4 of 31 in the 4x5 plant",
        ge=0.0,
        le=1.0,
    )
    num_operations: int = field(
        6, "Generated plant: operations between supply and removal.", source="own choice", ge=1, le=100
    )
    ability_share: float = field(
        0.2,
        "Generated plant: probability that a unit can do an operation; each can be done somewhere.",
        source="own choice",
        ge=0.0,
        le=1.0,
    )
    operation_ticks: tuple[Ticks, Ticks] = field(
        (3, 30), "Generated plant: interval of the operations' lengths.", unit="ticks", source="those of the 4x5 plant"
    )
    kinds: int = field(3, "Generated plant: kinds of products, A, B, C, ...", source="own choice", ge=1, le=26)
    plant_seed: int = field(0, "Generated plant: seed.", ge=0, lt=2**32)

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high = self.operation_ticks
        if low > high:
            raise ValueError(f"operation_ticks must be an interval, but {low} is above {high}")
        kinds = self.product_kinds
        if not 1 <= len(kinds) <= MAX_PRODUCTS:
            raise ValueError(f"products must be 1 to {MAX_PRODUCTS} products, not {len(kinds)}")
        if self.plant != GENERATED:
            defaults = {f.name: f.default for f in self.documentation()}
            for name in _OF_GENERATOR:
                if getattr(self, name) != defaults[name]:
                    raise ValueError(f"{name} is for plant={GENERATED}, but plant is {self.plant}")
        return self

    @property
    def product_kinds(self) -> tuple[str, ...]:
        """The kind of each product, written out."""
        kinds: list[str] = []
        for item in self.products.split(","):
            match = _ITEM.fullmatch(item)
            if match is None:
                raise ValueError(f"products must be kinds as in A,B,C or A*5, but one is {item.strip()!r}")
            kinds += [match[1]] * min(int(match[2] or 1), MAX_PRODUCTS + 1)
        return tuple(kinds)
