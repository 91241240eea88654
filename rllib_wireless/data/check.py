"""`rllib-wireless data check`: is a data set whole, unchanged, and what its card says?"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rllib_wireless import storage
from rllib_wireless.data.card import Card, check_environment, environment_card, read_card
from rllib_wireless.data.format import CARD, Columns
from rllib_wireless.data.reader import data_files, read_files
from rllib_wireless.data.store import Dataset, client_folders
from rllib_wireless.envs.registry import env_names, env_spec, make_env
from rllib_wireless.errors import DataError, UserError


@dataclass(frozen=True)
class CheckReport:
    """What a check found in a data set that is in order.

    Args:
        path: Its folder.
        kind: `joint`, `client` or `clients`.
        complete: Whether collecting came to its end.
        files: Number of files.
        transitions: Rows by agent.
        notes: What is no error, but worth knowing.
    """

    path: str
    kind: str
    complete: bool
    files: int
    transitions: dict[str, int]
    notes: list[str] = field(default_factory=list)


def check(path: Path | str) -> CheckReport:
    """Read everything anew, not from the cache, and compare it with the card and the environment.

    Args:
        path: Folder of a data set, or of clients' data sets, which are all checked.

    Raises:
        DataError: Naming file, line and column of the first thing that is wrong.
    """
    has_card = storage.holds(path, CARD)
    if (has_card and read_card(path).kind == "clients") or (not has_card and _holds_folders(path)):
        return _check_clients(path)
    return _check_one(path)


def _holds_folders(path: Path | str) -> bool:
    return any(storage.holds(child, CARD) for child in storage.folders(path))


def _check_clients(folder: Path | str) -> CheckReport:
    reports = [_check_one(client) for client in client_folders(folder).values()]
    return CheckReport(
        path=storage.name(folder),
        kind="clients",
        complete=all(r.complete for r in reports) and (not storage.holds(folder, CARD) or read_card(folder).complete),
        files=sum(r.files for r in reports),
        transitions={agent: rows for r in reports for agent, rows in r.transitions.items()},
        notes=list(dict.fromkeys(note for r in reports for note in r.notes)),
    )


def _check_one(path: Path | str) -> CheckReport:
    card = read_card(path)
    folder = storage.local(path)
    content = read_files(folder, card)
    dataset = Dataset(folder, card, content.rows, content.state)
    notes = [] if card.complete else ["incomplete: the writer was stopped, or is still at work"]
    notes += _check_environment(card, folder)
    for agent, rows in content.rows.items():
        _check_unique(rows, ("eps_id", "stream", "t"), agent, folder)
        if content.state is not None:
            for time in ("t", "new_t"):
                dataset.state_at(rows["eps_id"], rows[time])
    return CheckReport(
        path=storage.name(path),
        kind=card.kind,
        complete=card.complete,
        files=len(data_files(folder, card)),
        transitions={agent: len(rows["t"]) for agent, rows in content.rows.items()},
        notes=notes,
    )


def _check_environment(card: Card, folder: Path) -> list[str]:
    """Compare the card with the environment that it names, where that is known here."""
    if card.environment.name not in env_names():
        return [f"environment {card.environment.name} is not known here, so the card's spaces were taken as they are"]
    name, config = card.environment.name, card.environment.config
    try:
        env_spec(name).config.parse(config)
        env = make_env(name, 1, **config)
    except (UserError, ValueError, MemoryError) as error:
        raise DataError(f"its environment.config is wrong: {error}", folder / CARD) from None
    check_environment(card, environment_card(env), folder)
    return []


def _check_unique(rows: Columns, keys: tuple[str, ...], agent: str, folder: Path) -> None:
    """A decision is recorded once; twice means that lines were copied."""
    columns = [rows[key] for key in keys if key in rows]
    order = np.lexsort(columns)
    same = np.all([column[order][1:] == column[order][:-1] for column in columns], axis=0)
    if same.any():
        row = order[int(np.flatnonzero(same)[0])]
        where = f"episode {rows['eps_id'][row]}, step {rows['t'][row]}"
        raise DataError(f"{agent} has two rows of {where}; a line seems to be copied", folder, column=f"{agent}/t")
