"""Plants: units, their links, what they can do, and what products need. Read from TOML, or drawn."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from rllib_wireless.envs.base import IntArray
from rllib_wireless.envs.production_scheduling.config import GENERATED, ProductionSchedulingConfig
from rllib_wireless.envs.sharing import FAR, hops_from
from rllib_wireless.errors import ConfigError, UserError

LAYOUTS = ("grid_3x3", "grid_4x5")
"""Plants that come with the package."""

NOTHING = -1

_DIRECTIONS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # actions 1 to 4 of a grid: up, right, down, left

Index = Annotated[int, Field(ge=0)]
Ticks = Annotated[int, Field(ge=1, le=10_000)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Plant:
    """A plant of N units.

    Args:
        positions: Row and column of each unit; for pictures, and for the numbering of links.
        links: Pairs of units between which products move, both ways.
        abilities: Ticks that a unit takes for each operation that it can do, by unit.
        products: Operations in their order, by kind of product; the first is `supply`, the last `removal`.
        supply: Operation with which a product enters. Units that do it do nothing else.
        removal: Operation after which a product is finished.
        move_ticks: For how long the unit that receives a product is busy.
        defer_ticks: How long a unit waits that keeps a product.
    """

    positions: Annotated[tuple[tuple[float, float], ...], Field(min_length=2)]
    links: tuple[tuple[Index, Index], ...]
    abilities: dict[Index, dict[Index, Ticks]]
    products: dict[str, tuple[Index, ...]]
    supply: Index
    removal: Index
    move_ticks: Ticks = 2
    defer_ticks: Ticks = 2

    @property
    def num_units(self) -> int:
        """N."""
        return len(self.positions)

    @property
    def num_operations(self) -> int:
        """Number O of operations, supply and removal among them."""
        return 1 + max(operation for sequence in self.products.values() for operation in sequence)

    def ticks(self) -> IntArray:
        """How long each unit takes for each operation, [N, O]; 0 where it cannot do it."""
        ticks = np.zeros((self.num_units, self.num_operations), np.int64)
        for unit, abilities in self.abilities.items():
            for operation, needed in abilities.items():
                if operation < self.num_operations:
                    ticks[unit, operation] = needed
        return ticks

    def neighbours(self) -> IntArray:
        """The unit that each action moves a product to, [N, A]; `NOTHING` for action 0, and where there is no link.

        Actions are up, right, down and left where all links join neighbours of a grid; else an action is a unit's next link, in
        the order of the units at the other ends.
        """
        linked = [
            sorted({b for a, b in self.links if a == i} | {a for a, b in self.links if b == i})
            for i in range(self.num_units)
        ]
        steps = [[self._step(i, j) for j in row] for i, row in enumerate(linked)]
        on_grid = all(step in _DIRECTIONS for row in steps for step in row)
        width = len(_DIRECTIONS) if on_grid else max(len(row) for row in linked)
        table = np.full((self.num_units, 1 + width), NOTHING, np.int64)
        for i, row in enumerate(linked):
            for k, j in enumerate(row):
                table[i, 1 + (_DIRECTIONS.index(steps[i][k]) if on_grid else k)] = j
        return table

    def _step(self, i: int, j: int) -> tuple[float, float]:
        (row, column), (to_row, to_column) = self.positions[i], self.positions[j]
        return to_row - row, to_column - column


def plant_of(config: ProductionSchedulingConfig) -> Plant:
    """The plant of a configuration, and a check that it makes the products.

    Raises:
        UserError: Where a file or a field is wrong.
    """
    if config.plant == GENERATED:
        plant = generate_plant(config)
    elif config.plant in LAYOUTS:
        plant = parse_plant(files(__package__).joinpath(f"layouts/{config.plant}.toml").read_text(), config.plant)
    elif config.plant.endswith(".toml"):
        plant = load_plant(config.plant)
    else:
        allowed = f"it should be {', '.join(LAYOUTS)}, {GENERATED} or the path of a .toml file"
        raise ConfigError(config.owner, "plant", config.plant, allowed)
    for kind in config.product_kinds:
        if kind not in plant.products:
            allowed = f"this plant makes {', '.join(plant.products)}"
            raise ConfigError(config.owner, "products", config.products, allowed)
    return plant


def load_plant(path: Path | str) -> Plant:
    """Read a plant from a TOML file; it holds numbers and names only, so that reading it runs no code.

    Raises:
        UserError: Naming what is wrong in the file.
    """
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise UserError(f"plant {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"plant {path}: it is no text") from None
    return parse_plant(text, str(path))


def parse_plant(text: str, name: str) -> Plant:
    """The plant that a TOML text describes.

    Raises:
        UserError: Naming what is wrong.
    """
    try:
        plant = TypeAdapter(Plant).validate_python(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"plant {name} is no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise UserError(f"plant {name}: {where}: {first['msg']}, but it is {first['input']!r}") from None
    if problem := _problem(plant):
        raise UserError(f"plant {name}: {problem}")
    return plant


def _problem(plant: Plant) -> str | None:
    """What makes a plant impossible, in words."""
    n = plant.num_units
    for what, units in (("links", [unit for link in plant.links for unit in link]), ("abilities", [*plant.abilities])):
        if units and max(units) >= n:
            return f"{what} name unit {max(units)}, but units are 0 to {n - 1}"
    if any(a == b for a, b in plant.links):
        return "a link joins a unit with itself"
    if (hops_from(0, n, plant.links) == FAR).any():
        return "some units cannot be reached from others; add links"
    if not plant.products:
        return "there are no products"
    able = {operation for abilities in plant.abilities.values() for operation in abilities}
    for kind, sequence in plant.products.items():
        if len(sequence) < 2 or sequence[0] != plant.supply or sequence[-1] != plant.removal:
            return f"product {kind} should begin with supply = {plant.supply} and end with removal = {plant.removal}"
        if plant.supply in sequence[1:] or plant.removal in sequence[:-1]:
            return f"product {kind} is supplied or removed more than once"
        if missing := set(sequence) - able:
            return f"product {kind} needs operation {min(missing)}, which no unit can do"
    for unit, abilities in plant.abilities.items():
        if plant.supply in abilities and len(abilities) > 1:
            return f"unit {unit} supplies, and so can do nothing else; take its other abilities away"
    return None


def generate_plant(config: ProductionSchedulingConfig) -> Plant:
    """Draw a plant on a grid by the `plant_seed`: links, abilities, lengths of operations, and kinds of products."""
    draw = np.random.default_rng(config.plant_seed)
    columns, n = config.columns, config.rows * config.columns
    links = [(i, i + 1) for i in range(n) if (i + 1) % columns] + [(i, i + columns) for i in range(n - columns)]
    wanted = len(links) - round(config.dropped_links * len(links))
    for link in [links[k] for k in draw.permutation(len(links)).tolist()]:
        fewer = [other for other in links if other != link]
        if len(fewer) >= wanted and (hops_from(0, n, fewer) != FAR).all():
            links = fewer
    supply, removal = 0, config.num_operations + 1
    supplier = int(draw.integers(n))
    others = [i for i in range(n) if i != supplier]
    low, high = config.operation_ticks
    abilities: dict[int, dict[int, int]] = {supplier: {supply: int(draw.integers(low, high + 1))}}
    for operation in range(1, removal + 1):
        able = [i for i in others if draw.random() < config.ability_share] or [int(draw.choice(others))]
        for unit in able:
            abilities.setdefault(unit, {})[operation] = int(draw.integers(low, high + 1))
    inner = np.arange(1, removal)
    products = {}
    for kind in range(config.kinds):
        length = int(draw.integers(1, len(inner) + 1))
        chosen = draw.permutation(inner)[:length].tolist()
        products["ABCDEFGHIJKLMNOPQRSTUVWXYZ"[kind]] = (supply, *chosen, removal)
    return Plant(
        positions=tuple((float(i // columns), float(i % columns)) for i in range(n)),
        links=tuple(links),
        abilities=abilities,
        products=products,
        supply=supply,
        removal=removal,
    )
