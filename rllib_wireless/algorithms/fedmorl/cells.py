"""Cells: networks of different size or load whose stations train one world model together."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from rllib_wireless.data.card import EnvironmentCard, check_environment, environment_card, read_card
from rllib_wireless.data.store import cell_folders
from rllib_wireless.envs import BatchedEnv, make_env
from rllib_wireless.errors import DataError


@dataclass(frozen=True)
class Clients:
    """Who takes part.

    Args:
        folders: Each client's data, by its name: an agent's, or `<cell>/<agent>` where there are several cells.
        home: The clients of the cell that the run's environment is, in the order of its agents.
    """

    folders: dict[str, Path]
    home: tuple[str, ...]


def find_clients(path: Path, env: BatchedEnv) -> Clients:
    """The clients in a folder: a data set that was split by agent, or a folder of several such data sets.

    Only cards are read. The home cell is the one with the environment's agents; among several, the one that was collected
    with the environment's configuration.

    Raises:
        DataError: Where an agent has no folder, no cell or more than one is the home, or data do not fit: cells may differ in
            their agents and in what they are like, not in what a station observes and can do.
    """
    cells = cell_folders(path)
    cards = {cell: read_card(next(iter(folders.values()))).environment for cell, folders in cells.items()}
    wanted = environment_card(env)
    home = _home(cards, wanted, path)
    for cell, folders in cells.items():
        agents = wanted.agents if cell == home else cards[cell].agents
        for folder in folders.values():
            check_environment(read_card(folder), dataclasses.replace(wanted, agents=agents), folder)
        if lost := [agent for agent in agents if agent not in folders]:
            raise DataError(f"there is no folder of {', '.join(lost)}; every agent is a client", path / cell)
        _check_observations(cards[cell], env, path / cell)
    names = {cell: {agent: f"{cell}/{agent}" if cell else agent for agent in cards[cell].agents} for cell in cells}
    every = {name: cells[cell][agent] for cell in cells for agent, name in names[cell].items()}
    return Clients(every, tuple(names[home][agent] for agent in env.agents))


def _home(cards: dict[str, EnvironmentCard], wanted: EnvironmentCard, path: Path) -> str:
    """The cell that the environment is."""
    if len(cards) == 1:
        return next(iter(cards))  # its agents are checked like the rest of it
    fitting = [cell for cell, card in cards.items() if card.agents == wanted.agents]
    if len(fitting) > 1:
        fitting = [cell for cell in fitting if cards[cell].config == wanted.config]
    if len(fitting) != 1:
        found = ", ".join(f"{cell} ({len(card.agents)} agents)" for cell, card in cards.items())
        problem = "none of them is" if not fitting else f"{', '.join(fitting)} are all"
        raise DataError(f"its cells are {found}; {problem} the run's, which has {len(wanted.agents)} agents", path)
    return fitting[0]


def _check_observations(card: EnvironmentCard, env: BatchedEnv, path: Path) -> None:
    """Check that columns of equal names mean the same."""
    recorded = make_env(card.name, **card.config).obs_fields
    for has, wants in zip(recorded, env.obs_fields, strict=True):
        if has != wants:
            raise DataError(
                f"its observations hold {has.name} as {has.description!r}, but the {env.name} given as {wants.description!r}",
                path,
            )
