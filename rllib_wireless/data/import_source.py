"""Logs read piece by piece, every row with its line: CSV and Parquet files, and pandas frames.

Pieces are cut by line number, so that nothing that follows depends on how many bytes were read at once.
"""

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.csv  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]

from rllib_wireless.envs.base import IntArray
from rllib_wireless.errors import DataError, UserError

if TYPE_CHECKING:
    import pandas as pd

BLOCK_BYTES = 2**20
"""Bytes of a CSV file that are read at once."""

_LONGEST_LINE = 2**24
_MOST_CUTS = 32
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Reject:
    """A row that is not used: its line (of a frame or Parquet file its row, both from 1), why, and the value."""

    line: int
    reason: str
    value: str = ""


@dataclass
class Piece:
    """Some lines of the logs.

    Args:
        lines: Line of each row, [T].
        table: The columns that the mapping names, T rows.
        rejects: Lines that are no rows.
        end: The last line that was looked at.
    """

    lines: IntArray
    table: pa.Table
    rejects: list[Reject] = field(default_factory=list)
    end: int = 0


class Source:
    """Where logs come from.

    Args:
        given: A `.csv` or `.parquet` file, or a pandas frame.
        delimiter: Of a CSV file.

    Attributes:
        path: The file; `frame` for a frame.
        names: Names of all columns.
        bytes_read: Of a CSV file, so far.

    Raises:
        UserError: At a file of another kind, or none.
        DataError: At one that cannot be read.
    """

    def __init__(self, given: "Path | str | pd.DataFrame", delimiter: str = ",") -> None:
        self._delimiter, self.bytes_read, self.size = delimiter, 0, 0
        self.path = Path(given) if isinstance(given, str | Path) else Path("frame")
        self._frame = None if isinstance(given, str | Path) else given
        if self._frame is not None:
            self.names = [str(name) for name in self._frame.columns]
            return
        if self.path.suffix not in (".csv", ".parquet"):
            raise UserError(f"{self.path} should end with .csv or .parquet")
        if not self.path.is_file():
            raise UserError(f"there is no file {self.path}")
        self.size = self.path.stat().st_size
        self.names = self._header() if self.path.suffix == ".csv" else self._parquet().schema_arrow.names

    @property
    def rows_in_memory(self) -> int:
        """Rows of a frame; of a file, which is read piece by piece, none."""
        return 0 if self._frame is None else len(self._frame)

    @property
    def is_text(self) -> bool:
        """Whether a row is a line of a text file."""
        return self._frame is None and self.path.suffix == ".csv"

    def pieces(self, columns: Sequence[str], lines: int, block_bytes: int = BLOCK_BYTES) -> Iterator[Piece]:
        """All rows, in pieces of so many lines.

        Args:
            columns: The columns that are wanted.
            lines: Lines of a piece; the last one may have fewer.
            block_bytes: Bytes of a CSV file that are read at once.
        """
        parts: list[Piece] = []
        first = 2 if self.is_text else 1  # the header is line 1
        for part in self._parts(list(columns), block_bytes):
            while part.end >= first + lines - 1:
                head, part = _split(part, first + lines - 1)
                yield _join([*parts, head])
                parts, first = [], first + lines
            parts.append(part)
        if parts and parts[-1].end >= first:
            yield _join(parts)

    def _parts(self, columns: list[str], block_bytes: int) -> Iterator[Piece]:
        if self.is_text:
            yield from self._csv(columns, block_bytes)
            return
        end = 0
        for table in self._tables(columns):
            start, end = end, end + len(table)
            yield Piece(np.arange(start + 1, end + 1), table, [], end)

    def _tables(self, columns: list[str]) -> Iterator[pa.Table]:
        try:
            if self._frame is not None:
                yield pa.table({name: _array(self._frame[name]) for name in columns})
                return
            for batch in self._parquet().iter_batches(columns=columns):
                yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"it cannot be read: {' '.join(str(error).split())}", self.path) from None

    def _parquet(self) -> Any:
        try:
            return pa.parquet.ParquetFile(self.path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"it cannot be read: {' '.join(str(error).split())}", self.path) from None

    def _header(self) -> list[str]:
        with self.path.open("rb") as file:
            line = file.readline(_LONGEST_LINE).removeprefix(_BOM).decode(errors="replace").strip("\r\n")
        names = [name.strip() for name in next(csv.reader([line], delimiter=self._delimiter), [])]
        if not any(names):
            raise DataError("its first line should name the columns", self.path)
        return names

    def _csv(self, columns: list[str], block_bytes: int) -> Iterator[Piece]:
        line, rest = 1, b""
        with self.path.open("rb") as file:
            self.bytes_read = len(file.readline(_LONGEST_LINE))
            while True:
                block = file.read(block_bytes)
                self.bytes_read += len(block)
                whole, newline, rest_after = (rest + block).rpartition(b"\n")
                if not block:
                    whole, newline, rest_after = rest, b"\n" if rest else b"", b""
                rest = rest_after
                if len(rest) > _LONGEST_LINE:
                    raise DataError(f"a line is longer than {_LONGEST_LINE} bytes", self.path, line + 1)
                if newline:
                    # What else would be taken for the end of a line, or for one more of them.
                    content = whole + newline
                    if b"\r" in content:
                        content = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
                    piece = self._rows(content, content.count(b"\n"), line + 1, columns)
                    line = piece.end
                    yield piece
                if not block:
                    return

    def _rows(self, content: bytes, count: int, first: int, columns: list[str]) -> Piece:
        """The rows of `count` lines, of which the first is line `first`."""
        end = first + count - 1
        bad: dict[int, Reject] = {}

        def refuse(row: Any) -> str:
            problem = f"it has {row.actual_columns} values, but the header has {row.expected_columns}"
            bad[row.number - 1] = Reject(first + row.number - 1, problem, row.text[:200])
            return "skip"

        table = self._parse(content, columns, refuse)
        if table is None or len(table) + len(bad) != count + 1:
            # A quote that is not closed takes in the lines that follow.
            if count == 1:
                text = content.decode(errors="replace").strip("\n")[:200]
                return Piece(
                    np.zeros(0, np.int64), self._empty(columns), [Reject(first, "a quote is not closed", text)], end
                )
            ends = np.append(0, _places(content, b"\n") + 1)
            return _join(
                [
                    self._rows(content[ends[a] : ends[b]], b - a, first + a, columns)
                    for a, b in itertools.pairwise(_cuts(content, count))
                ]
            )
        blank = np.diff(_places(content, b"\n"), prepend=-1) == 1
        is_row = np.ones(count + 1, np.bool_)
        is_row[list(bad)] = False
        wanted = ~np.append(blank, True)  # the last one is the line that was added
        kept = wanted[is_row]
        lines = first + np.flatnonzero(is_row & wanted)
        if not kept.all():
            table = table.filter(pa.array(kept))
        return Piece(lines, table, [reject for row, reject in bad.items() if wanted[row]], end)

    def _parse(self, content: bytes, columns: list[str], refuse: Any) -> pa.Table | None:
        """Lines as columns of text; one empty line more, which tells whether a quote was left open."""
        names = [f"{i}:{name}" for i, name in enumerate(self.names)]  # names may come twice
        chosen = [names[self.names.index(name)] for name in columns]
        text = content if content.isascii() else content.decode(errors="replace").encode()
        try:
            table = pa.csv.read_csv(
                pa.py_buffer(text + b"\n"),
                pa.csv.ReadOptions(use_threads=False, block_size=len(text) + 2, column_names=names),
                pa.csv.ParseOptions(delimiter=self._delimiter, ignore_empty_lines=False, invalid_row_handler=refuse),
                pa.csv.ConvertOptions(
                    include_columns=chosen, column_types=dict.fromkeys(chosen, pa.string()), null_values=[]
                ),
            )
        except pa.ArrowInvalid:
            return None  # it is for the caller to cut the lines apart
        return table.rename_columns(columns)

    def _empty(self, columns: list[str]) -> pa.Table:
        return pa.table({name: pa.array([], pa.string()) for name in columns})


def _places(content: bytes, character: bytes) -> IntArray:
    places: IntArray = np.flatnonzero(np.frombuffer(content, np.uint8) == character[0])
    return places


def _cuts(content: bytes, count: int) -> list[int]:
    """Where to cut lines of which some leaves a quote open: around those with an odd number of quotes, or in the middle."""
    quotes = np.bincount(np.searchsorted(_places(content, b"\n"), _places(content, b'"')), minlength=count)
    odd = np.flatnonzero(quotes % 2)
    if not 0 < len(odd) <= _MOST_CUTS:
        return [0, count // 2, count]
    return sorted({0, *odd.tolist(), *(odd + 1).tolist(), count})


def _array(values: "pd.Series[Any]") -> pa.Array:
    """A column of a frame; one of mixed values as text."""
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _split(piece: Piece, line: int) -> tuple[Piece, Piece]:
    """What comes up to a line, and what comes after."""
    rows = int(np.searchsorted(piece.lines, line, side="right"))
    before = [reject for reject in piece.rejects if reject.line <= line]
    after = [reject for reject in piece.rejects if reject.line > line]
    head = Piece(piece.lines[:rows], piece.table.slice(0, rows), before, line)
    return head, Piece(piece.lines[rows:], piece.table.slice(rows), after, piece.end)


def _join(pieces: list[Piece]) -> Piece:
    lines = np.concatenate([piece.lines for piece in pieces])
    rejects = [reject for piece in pieces for reject in piece.rejects]
    return Piece(lines, pa.concat_tables([piece.table for piece in pieces]), rejects, pieces[-1].end)
