"""Reading the files of a data set: one pass, line by line, into contiguous arrays per agent, all checked."""

import hashlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rllib_wireless.data.card import Card, FileCard
from rllib_wireless.data.format import STATE, Columns, columns_of
from rllib_wireless.data.parse import BrokenLine, parse_line
from rllib_wireless.data.scan import Scanner
from rllib_wireless.data.validate import Problem, check_structure, find_problem, find_state_problem
from rllib_wireless.errors import DataError


class DataWarning(UserWarning):
    """Something about a data set that a user should know and that is no error."""


@dataclass
class Content:
    """What the files of a data set hold: rows by agent, and the joint state where there is one."""

    rows: dict[str, Columns]
    state: Columns | None


def read_files(folder: Path, card: Card) -> Content:
    """Read and check all files of a data set.

    Raises:
        DataError: At the first thing that is wrong, naming file, line and column.
    """
    parts: dict[str, _Part] = {}
    scanner = Scanner()
    paths = data_files(folder, card)
    for path in paths:
        _read_file(path, scanner, card, parts, last=path == paths[-1])
    content = Content(
        {agent: parts[agent].join() if agent in parts else _no_rows(agent, card) for agent in card.agents},
        None if card.state_size is None else parts[STATE].join() if STATE in parts else _no_rows(STATE, card),
    )
    if not any(len(rows["t"]) for rows in content.rows.values()):
        raise DataError("it holds no transitions", folder)
    for agent, rows in content.rows.items():
        _raise(find_problem(rows, card.environment), agent, parts)
        stated = card.agents[agent].transitions
        if card.complete and stated != len(rows["t"]):
            raise DataError(
                f"the card says that {agent} has {stated} rows, but the files hold {len(rows['t'])}", folder
            )
    if content.state is not None:
        _raise(find_state_problem(content.state), STATE, parts)
    return content


def data_files(folder: Path, card: Card) -> list[Path]:
    """The files of a data set, in order.

    Raises:
        DataError: Where a complete data set lacks a file, or has one more.
    """
    found = sorted(path for path in folder.glob("*.json") if path.is_file())
    if not card.complete:
        return found
    listed = [folder / file.name for file in card.files]
    for path in listed:
        if path not in found:
            raise DataError("the card lists this file, but it is not there", path)
    for path in found:
        if path not in listed:
            raise DataError("the card does not list this file", path)
    return listed


@dataclass
class _Part:
    """The lines of one batch: their columns, and where they come from."""

    columns: list[Columns] = field(default_factory=list)
    origins: list[tuple[Path, int]] = field(default_factory=list)

    def join(self) -> Columns:
        return {name: np.concatenate([columns[name] for columns in self.columns]) for name in self.columns[0]}

    def origin(self, row: int) -> tuple[Path, int]:
        """File and line of a row."""
        ends = np.cumsum([len(columns["t"]) for columns in self.columns])
        return self.origins[int(np.searchsorted(ends, row, side="right"))]


def _read_file(path: Path, scanner: Scanner, card: Card, parts: dict[str, _Part], last: bool) -> None:
    digest = hashlib.sha256()
    with path.open("rb", buffering=2**20) as file:
        for number, line in enumerate(file, start=1):
            digest.update(line)
            try:
                _, batches = scanner.scan(line) or parse_line(line)
                for name, columns in batches.items():
                    check_structure(name, columns, card)
            except BrokenLine as error:
                if not card.complete and last and not file.readline():
                    message = f"{path}, line {number}: skipped, as the writer was stopped in the middle of it"
                    warnings.warn(message, DataWarning, stacklevel=2)
                    return
                raise DataError(error.problem, path, number) from None
            except DataError as error:
                raise DataError(error.problem, path, number, error.column) from None
            for name, columns in batches.items():
                part = parts.setdefault(name, _Part())
                part.columns.append(columns)
                part.origins.append((path, number))
    if card.complete:
        _check_digest(path, digest.hexdigest(), next(f for f in card.files if f.name == path.name))


def _check_digest(path: Path, digest: str, stated: FileCard) -> None:
    if digest != stated.sha256:
        problem = (
            f"its sha256 is {digest}, but the card says {stated.sha256}: the file was changed after it was written"
        )
        raise DataError(problem, path)


def _no_rows(batch: str, card: Card) -> Columns:
    env = card.environment
    widths = {"obs": card.state_size if batch == STATE else env.obs_size, "actions": env.num_actions, None: None}
    names = columns_of(batch) if batch == STATE else card.columns
    known = columns_of(batch)
    shapes = {name: (0,) if widths[known[name].width] is None else (0, widths[known[name].width]) for name in names}
    return {name: np.zeros(shape, known[name].dtype) for name, shape in shapes.items()}  # type: ignore[arg-type]


def _raise(problem: Problem | None, batch: str, parts: dict[str, _Part]) -> None:
    if problem is not None:
        path, line = parts[batch].origin(problem.row)
        raise DataError(problem.message, path, line, f"{batch}/{problem.column}")
