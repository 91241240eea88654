"""The careful path into a data set: a line through orjson, each value's type checked, each error named.

Nothing is ever unpickled: a string where numbers belong is refused, whatever it contains.
"""

import json
from itertools import chain

import numpy as np
import orjson

from rllib_wireless.data.format import Array, Column, Columns, columns_of
from rllib_wireless.errors import DataError

_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}
_ALLOWED: dict[str, tuple[frozenset[type], str]] = {
    "f": (frozenset((int, float)), "numbers"),
    "i": (frozenset((int,)), "integers"),
    "b": (frozenset((bool,)), "true or false"),
}


class BrokenLine(DataError):
    """A line that is not JSON: the writer was stopped in the middle of it, or the file was damaged."""


def parse_line(line: bytes) -> tuple[int, dict[str, Columns]]:
    """Read a line.

    Returns:
        Count and {batch: columns}.

    Raises:
        DataError: Naming the column; the caller knows file and line.
    """
    content = _load(line)
    if not isinstance(content, dict):
        raise DataError(f"a line should be a JSON object, not {_name(content)}")
    if content.get("type") != "MultiAgentBatch":
        raise DataError(f"type is {content.get('type')!r}, but it should be 'MultiAgentBatch'")
    for key in content:
        if key not in ("type", "count", "policy_batches"):
            raise DataError(f"unknown key {key!r}; a line has type, count and policy_batches")
    count, batches = content.get("count"), content.get("policy_batches")
    if type(count) is not int or not 0 <= count < 2**53:
        raise DataError(f"count is {_name(count)}, but it should be a number of environment steps")
    if not isinstance(batches, dict):
        raise DataError(f"policy_batches is {_name(batches)}, but it should be an object of batches")
    return count, {name: _batch(name, batch) for name, batch in batches.items()}


def _load(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if b"NaN" in line or b"Infinity" in line:
            # Python's json writes these, which are not JSON; read them, so that the error can name the column.
            try:
                return json.loads(line)
            except (ValueError, RecursionError):
                pass
        reason = f"{error.msg} at byte {error.pos + 1}"
        raise BrokenLine(f"the line is broken, as it is not JSON ({reason})") from None


def _batch(name: str, batch: object) -> Columns:
    if not isinstance(batch, dict):
        raise DataError(f"it is {_name(batch)}, but it should be an object of columns", column=name)
    known, columns = columns_of(name), Columns()
    for column, values in batch.items():
        where = f"{name}/{column}"
        if isinstance(values, str):
            raise DataError(_PACKED, column=where)
        if column not in known:
            raise DataError(f"unknown column; columns are {', '.join(known)}", column=where)
        columns[column] = convert(values, known[column], where)
    return columns


_PACKED = (
    "the column is packed (a string, which RLlib would unpickle); "
    "only `rllib-wireless data convert --trust-pickle` reads such files, and only do that if you trust who wrote them"
)


def convert(values: object, column: Column, where: str) -> Array:
    """Turn JSON values into the array of a column.

    Raises:
        DataError: At a value of the wrong type, or rows of unequal length.
    """
    if not isinstance(values, list):
        raise DataError(f"it is {_name(values)}, but it should be an array", column=where)
    if not values:
        raise DataError("it is empty; an agent without rows is left out of the line", column=where)
    if column.width is None:
        return _flat(values, column, where)
    for row, value in enumerate(values):
        if not isinstance(value, list):
            raise DataError(f"row {row} is {_name(value)}, but it should be an array", column=where)
        if len(value) != len(values[0]) or not value:
            problem = f"row {row} has {len(value)} values, row 0 has {len(values[0])}; they should be equal and not 0"
            raise DataError(problem, column=where)
    return _flat(list(chain.from_iterable(values)), column, where).reshape(len(values), -1)


def _flat(values: list[object], column: Column, where: str) -> Array:
    dtype = np.dtype(column.dtype)
    types, words = _ALLOWED[dtype.kind]
    if not types.issuperset(map(type, values)):
        wrong = next(value for value in values if type(value) not in types)
        if isinstance(wrong, str):
            raise DataError(
                f"it holds a string, but it should hold {words}; packed values are never read", column=where
            )
        raise DataError(f"it holds {_name(wrong)}, but it should hold {words}", column=where)
    try:
        with np.errstate(over="ignore"):  # infinite in single precision: found by the check of values
            return np.array(values, np.float64 if dtype.kind == "f" else dtype).astype(dtype)
    except OverflowError:
        raise DataError("it holds an integer beyond 64 bits", column=where) from None


def _name(value: object) -> str:
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)
