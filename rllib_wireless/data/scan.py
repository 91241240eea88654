"""The fast path into a data set: numbers of a line straight from its bytes into arrays, without Python objects between.

It understands what this package, `json` and orjson write for the columns of format.py, and gives up on everything else,
which then goes to orjson and gets its error there. What it returns is equal to the bit to what orjson would have given.
"""

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rllib_wireless.data.format import COLUMNS, STATE, STATE_COLUMNS, Column, Columns
from rllib_wireless.envs.random import jit

_NAME = rb'"([ !#-\[\]-~]+)": ?'
_HEAD = re.compile(rb'\{"type": ?"MultiAgentBatch", ?"count": ?(0|[1-9]\d{0,15}), ?"policy_batches": ?\{')
_FIRST_BATCH, _NEXT_BATCH = re.compile(_NAME + rb"\{"), re.compile(rb", ?" + _NAME + rb"\{")
_FIRST_COLUMN, _NEXT_COLUMN = re.compile(_NAME), re.compile(rb", ?" + _NAME)
_TAIL = re.compile(rb"\}[ \t\r\n]*\Z")
_BRACE = ord("}")

_INT, _FLOAT, _BOOL = 1, 2, 4
_ALLOWED = {"f": _INT | _FLOAT, "i": _INT, "b": _BOOL}


class Scanner:
    """Scans lines; it keeps its working memory from one to the next."""

    def __init__(self) -> None:
        self._numbers = np.empty(0)

    def scan(self, line: bytes) -> tuple[int, dict[str, Columns]] | None:
        """Read a line.

        Returns:
            Count and {batch: columns}, or None where the line is anything but plain.
        """
        head = _HEAD.match(line)
        # Since no token contains one of these, no token can run over the end, and nothing below looks for it.
        if head is None or not line.endswith((b"}", b"}\n")):
            return None
        # Every number takes at least one digit and one separator.
        if len(self._numbers) < len(line) // 2 + 1:
            self._numbers = np.empty(len(line))
        data = np.frombuffer(line, np.uint8)
        batches: dict[str, Columns] = {}
        at, key = head.end(), _FIRST_BATCH
        while True:
            batch = key.match(line, at)
            if batch is None:
                return None
            name, key = batch[1].decode(), _NEXT_BATCH
            columns, at = self._columns(line, data, batch.end(), _KINDS[name == STATE])
            if columns is None or name in batches:
                return None
            batches[name] = columns
            if line[at] == _BRACE:
                return (int(head[1]), batches) if _TAIL.match(line, at + 1) else None

    def _columns(
        self, line: bytes, data: npt.NDArray[np.uint8], at: int, kinds: dict[bytes, "_Kind"]
    ) -> tuple[Columns | None, int]:
        columns, key = Columns(), _FIRST_COLUMN
        while True:
            column = key.match(line, at)
            kind = None if column is None else kinds.get(column[1])
            if column is None or kind is None or kind.name in columns:
                return None, at
            key = _NEXT_COLUMN
            at, rows, width, found = _scan_array(data, column.end(), self._numbers)
            if at < 0 or found & ~kind.allowed or kind.nested != (width > 0):
                return None, at
            if kind.nested:
                columns[kind.name] = self._numbers[: rows * width].astype(kind.dtype).reshape(rows, width)
            else:
                columns[kind.name] = self._numbers[:rows].astype(kind.dtype)
            if line[at] == _BRACE:
                return columns, at + 1


class _Kind(NamedTuple):
    """What a column may hold, looked up by the bytes of its name."""

    name: str
    dtype: np.dtype[Any]
    allowed: int
    nested: bool

    @classmethod
    def table(cls, columns: dict[str, Column]) -> dict[bytes, "_Kind"]:
        kinds = {}
        for name, column in columns.items():
            dtype = np.dtype(column.dtype)
            kinds[name.encode()] = cls(name, dtype, _ALLOWED[dtype.kind], column.width is not None)
        return kinds


_KINDS = {False: _Kind.table(COLUMNS), True: _Kind.table(STATE_COLUMNS)}

_POWERS = 10.0 ** np.arange(23)  # those that double precision holds exactly
_EXACT = 2**53
_OPEN, _CLOSE, _COMMA, _SPACE, _MINUS, _PLUS, _DOT, _ZERO = (np.uint8(ord(c)) for c in "[], -+.0")
_E, _UPPER_E, _A, _F, _L, _R, _S, _T, _U = (np.uint8(ord(c)) for c in "eEaflrstu")
_FAILED = (-1, 0, 0, 0)


@jit
def _scan_array(data: Any, start: int, numbers: Any) -> Any:
    """Read an array of numbers or booleans, or an array of equally long ones.

    Returns:
        Position behind it (negative: not understood), rows, width (0: not nested), and which kinds of value it has.
    """
    at = np.uint64(start)  # unsigned, as Numba would look at each index whether it is negative
    n, rows, width, row_start, kinds = 0, 0, 0, 0, 0
    if data[at] != _OPEN:
        return _FAILED
    at += _ONE
    nested = data[at] == _OPEN
    if nested:
        at += _ONE
    while True:
        at, value, kind = _scan_value(data, at)
        if kind == 0:
            return _FAILED
        numbers[n] = value
        n += 1
        kinds |= kind
        if data[at] == _COMMA:
            at = _behind_space(data, at + _ONE)
            continue
        if data[at] != _CLOSE:
            return _FAILED
        at += _ONE
        if not nested:
            return np.int64(at), n, 0, kinds
        if rows > 0 and n - row_start != width:
            return _FAILED
        rows, width, row_start = rows + 1, n - row_start, n
        if data[at] == _CLOSE:
            return np.int64(at + _ONE), rows, width, kinds
        if data[at] != _COMMA:
            return _FAILED
        at = _behind_space(data, at + _ONE)
        if data[at] != _OPEN:
            return _FAILED
        at += _ONE


_ONE, _TWO, _THREE, _FOUR, _FIVE = (np.uint64(i) for i in range(1, 6))


@jit
def _scan_value(data: Any, at: Any) -> Any:
    """Read a number or boolean: position behind it, value, kind (0: not understood)."""
    if data[at] == _T:
        true = data[at + _ONE] == _R and data[at + _TWO] == _U and data[at + _THREE] == _E
        return at + _FOUR, 1.0, _BOOL if true else 0
    if data[at] == _F:
        false = data[at + _ONE] == _A and data[at + _TWO] == _L and data[at + _THREE] == _S and data[at + _FOUR] == _E
        return at + _FIVE, 0.0, _BOOL if false else 0
    negative = data[at] == _MINUS
    if negative:
        at += _ONE
    start, kind = at, _INT
    at, mantissa = _scan_digits(data, at, np.int64(0))
    digits, exponent = np.int64(at - start), np.int64(0)
    if digits == 0 or (digits > 1 and data[start] == _ZERO):
        return at, 0.0, 0
    if data[at] == _DOT:
        kind, start = _FLOAT, at + _ONE
        at, mantissa = _scan_digits(data, start, mantissa)
        exponent = -np.int64(at - start)
        digits -= exponent
        if exponent == 0:
            return at, 0.0, 0
    if data[at] == _E or data[at] == _UPPER_E:
        kind = _FLOAT
        at += _ONE
        minus = data[at] == _MINUS
        if minus or data[at] == _PLUS:
            at += _ONE
        start = at
        at, power = _scan_digits(data, at, np.int64(0))
        if at == start or at - start > _FOUR:
            return at, 0.0, 0
        exponent += -power if minus else power
    if (
        digits > 18
        or mantissa > _EXACT
        or exponent > 22
        or exponent < -22
        or (negative and kind == _INT and mantissa == 0)
    ):
        return at, 0.0, 0
    # Within these bounds one division or product of exact doubles is correctly rounded (Clinger, PLDI 1990).
    value = np.float64(mantissa)
    if exponent < 0:
        value /= _POWERS[-exponent]
    elif exponent > 0:
        value *= _POWERS[exponent]
    return at, (-value if negative else value), kind


@jit
def _scan_digits(data: Any, at: Any, number: Any) -> Any:
    """Append the digits at a position to a number; it may overflow, which the caller sees by their count."""
    digit = data[at] - _ZERO
    while digit <= 9 and digit >= 0:
        number = number * 10 + np.int64(digit)
        at += _ONE
        digit = data[at] - _ZERO
    return at, number


@jit
def _behind_space(data: Any, at: Any) -> Any:
    while data[at] == _SPACE:
        at += _ONE
    return at
