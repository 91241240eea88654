"""Cells of logs as numbers, steps and words. What cannot be read is told apart, cell by cell, and stops nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from rllib_wireless.data.import_mapping import Clock
from rllib_wireless.envs.base import BoolArray, IntArray

_EMPTY = pa.array(["", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A"])
_ZONED, _NAIVE = pa.timestamp("ns", tz="UTC"), pa.timestamp("ns")

_CUT = 1024

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """The values of a column.

    Args:
        values: [T], of no meaning where `problem` says something.
        problem: [T], 0 where all is well, `EMPTY`, or `WRONG`.
    """

    values: npt.NDArray[np.generic]
    problem: npt.NDArray[np.int8]


EMPTY, WRONG = 1, 2


def numbers(column: pa.ChunkedArray) -> Cells:
    """A column as float64; `true` and `false` are 1 and 0."""
    text = _text(column)
    if text is None:
        array = _plain(column)
        is_bool = pa.types.is_boolean(array.type)
        if not (is_bool or pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or _is_null(array)):
            return _nothing(array)
        found = pc.cast(pc.cast(array, pa.int8()) if is_bool else array, pa.float64(), safe=False)
        return _cells(found, found)
    try:
        found = pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        lower = pc.utf8_lower(text)
        words = pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", text))
        found = _cast(words, pa.float64())
    return _cells(found, text)


def steps(column: pa.ChunkedArray, clock: Clock, anchor: int | None) -> tuple[Cells, int | None]:
    """A column of times as whole steps since `anchor`, in nanoseconds; where that is None, since the first time.

    Returns:
        The steps as int64, and the anchor.
    """
    if clock.unit == "iso":
        text = _text(column)
        if text is None:
            array = _plain(column)
            if not pa.types.is_timestamp(array.type):
                return _nothing(array), anchor
            found = text = pc.cast(array, _ZONED if array.type.tz else _NAIVE)
        else:
            found = _timestamps(text)
        cells = _cells(pc.cast(found, pa.int64()), text)
        times = cells.values.astype(np.int64)
    else:
        cells = numbers(column)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = cells.values.astype(np.float64) * clock.unit_ns
        far = (cells.problem == 0) & ~(np.abs(scaled) < 2.0**63)
        cells = Cells(scaled, np.where(far, WRONG, cells.problem).astype(np.int8))
        times = np.where(cells.problem == 0, scaled, 0.0).round().astype(np.int64)
    if anchor is None and (cells.problem == 0).any():
        anchor = int(times[cells.problem == 0][0])
    # Times on both sides of the anchor may be as far apart as int64 reaches.
    near = np.abs(times.astype(np.float64) - (anchor or 0)) < 2.0**62
    problem = np.where((cells.problem == 0) & ~near, WRONG, cells.problem).astype(np.int8)
    since = np.where(problem == 0, times - (anchor or 0), 0)
    return Cells((since + clock.step_ns // 2) // clock.step_ns, problem), anchor


def words(column: pa.ChunkedArray) -> tuple[IntArray, list[str]]:
    """A column as numbers [T] of its distinct words, and the words; an empty cell has number -1."""
    text = _text(column)
    if text is None:
        text = _plain(column)
        try:
            text = pc.cast(text, pa.string())
        except pa.ArrowException:
            text = pa.array([None if v is None else str(v) for v in text.to_pylist()], pa.string())
    encoded = pc.dictionary_encode(text)
    numbers: IntArray = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers, encoded.dictionary.to_pylist()


def choices(column: pa.ChunkedArray, values: Sequence[str]) -> Cells:
    """A column of words as their places in `values`; a whole number may be written as 2.0."""
    number, found = words(column)
    place = {word: i for i, word in enumerate(values)}
    known = [place.get(word, place.get(word.removesuffix(".0"), -1)) for word in found]
    table = np.array([*known, -1], np.int64)  # the last one is for empty cells
    chosen: IntArray = table[number]
    problem = np.where(number < 0, EMPTY, np.where(chosen < 0, WRONG, 0)).astype(np.int8)
    return Cells(chosen, problem)


def flags(column: pa.ChunkedArray) -> Cells:
    """A column of true and false, or 1 and 0."""
    found = numbers(column)
    wrong = (found.problem == 0) & (found.values != 0.0) & (found.values != 1.0)
    return Cells(found.values == 1.0, np.where(wrong, WRONG, found.problem).astype(np.int8))


def integers(column: pa.ChunkedArray) -> Cells:
    """A column of whole numbers."""
    found = numbers(column)
    values = found.values.astype(np.float64)
    wrong = (found.problem == 0) & ~((np.abs(values) < 2.0**53) & (values == np.floor(values)))
    problem = np.where(wrong, WRONG, found.problem).astype(np.int8)
    return Cells(np.where(problem == 0, values, 0.0).astype(np.int64), problem)


def shown(column: pa.ChunkedArray, row: int) -> str:
    """A cell as it is shown to a user."""
    value = column[row].as_py()
    return "" if value is None else str(value)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # where there are no chunks
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _text(column: pa.ChunkedArray) -> pa.Array | None:
    """A column of text, trimmed, with null for what is empty; None for another one."""
    array = _plain(column)
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return None
    trimmed = pc.utf8_trim_whitespace(pc.cast(array, pa.string()))
    return pc.if_else(pc.is_in(trimmed, _EMPTY), pa.scalar(None, pa.string()), trimmed)


def _timestamps(text: pa.Array) -> pa.Array:
    """Times in UTC; those without a zone are taken to be."""
    for kind in (_ZONED, _NAIVE):
        try:
            return pc.cast(pc.cast(text, kind), _NAIVE)
        except pa.ArrowInvalid:
            continue
    zoned = pc.cast(_cast(text, _ZONED), _NAIVE)
    rest = pc.if_else(pc.is_valid(zoned), pa.scalar(None, pa.string()), text)
    return pc.coalesce(zoned, _cast(rest, _NAIVE))


def _cast(text: pa.Array, kind: pa.DataType) -> pa.Array:
    """What of a text can be cast, null elsewhere. Wrong cells are found by cutting, so that one rule says what is right."""
    try:
        return pc.cast(text, kind)
    except pa.ArrowInvalid:
        if len(text) == 1:
            return pa.nulls(1, kind)
        size = min(-(-len(text) // 2), _CUT)
        return pa.concat_arrays([_cast(text.slice(start, size), kind) for start in range(0, len(text), size)])


def _cells(found: pa.Array, given: pa.Array) -> Cells:
    """Values, and what is wrong: empty where nothing was given, wrong where it gave nothing."""
    valid: BoolArray = pc.is_valid(found).to_numpy(zero_copy_only=False)
    empty: BoolArray = pc.is_null(given, nan_is_null=pa.types.is_floating(given.type)).to_numpy(zero_copy_only=False)
    values = pc.fill_null(found, 0).to_numpy(zero_copy_only=False)
    return Cells(values, np.where(empty, EMPTY, np.where(valid, 0, WRONG)).astype(np.int8))


def _nothing(array: pa.Array) -> Cells:
    valid: BoolArray = pc.is_valid(array).to_numpy(zero_copy_only=False)
    return Cells(np.zeros(len(array)), np.where(valid, WRONG, EMPTY).astype(np.int8))


def _is_null(array: pa.Array) -> bool:
    return bool(pa.types.is_null(array.type))
