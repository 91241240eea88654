"""The cache: what was read and checked once is kept as safetensors and mapped into memory the next time.

An entry is keyed by the card, and by path, size and time of change of every file. It lies in `$RLLIB_WIRELESS_CACHE`, or in
`rllib-wireless` under `$XDG_CACHE_HOME` or `~/.cache`, and can be deleted at any time. Entries that were not used for longest make
room for others where all together would be larger than `$RLLIB_WIRELESS_CACHE_GB`, 10 if not given.
"""

import contextlib
import hashlib
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
from safetensors.numpy import save_file

from rllib_wireless.data.format import CARD, STATE, VERSION, Array, Columns
from rllib_wireless.data.reader import Content, DataWarning
from rllib_wireless.errors import UserError
from rllib_wireless.storage import cache_folder

_ROOM_GB = 10.0
_DTYPES = {"F32": np.float32, "I64": np.int64, "BOOL": np.bool_}


def entry_path(folder: Path, files: Sequence[Path]) -> Path:
    """The entry of a data set as it is now; another state of it has another entry."""
    paths = [folder / CARD, *files]
    stats = [(str(path.resolve()), (s := path.stat()).st_size, s.st_mtime_ns) for path in paths]
    owner = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:20]
    state = hashlib.sha256(orjson.dumps([VERSION, stats])).hexdigest()[:20]
    return cache_folder() / f"{owner}-{state}.safetensors"


def load(path: Path) -> Content | None:
    """Map an entry into memory; None where there is none, or it is damaged.

    The arrays may be written to: changes stay in this process.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                return None
            header = orjson.loads(file.read(length))
        data = np.asarray(np.memmap(path, np.uint8, mode="c"))[8 + length :]
        header.pop("__metadata__", None)
        arrays = {name: _array(data, **entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    with contextlib.suppress(OSError):
        path.touch()  # used just now
    return _unflatten(arrays)


def save(path: Path, content: Content) -> None:
    """Write an entry, whole or not at all, and remove older ones of the same data set."""
    batches = content.rows if content.state is None else {**content.rows, STATE: content.state}
    arrays = {f"{batch}/{name}": values for batch, columns in batches.items() for name, values in columns.items()}
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        os.close(handle)
        save_file(arrays, temporary)
        Path(temporary).replace(path)
        for other in path.parent.glob(f"{path.name.split('-')[0]}-*.safetensors"):
            if other != path:
                other.unlink(missing_ok=True)
        _make_room(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        warnings.warn(f"{path.parent}: nothing cached ({error.strerror})", DataWarning, stacklevel=2)


def _make_room(newest: Path) -> None:
    """Remove the entries that were not used for longest, but for the newest; what is mapped into memory stays readable."""
    entries = sorted(newest.parent.glob("*.safetensors"), key=_last_use, reverse=True)
    given = os.environ.get("RLLIB_WIRELESS_CACHE_GB", str(_ROOM_GB))
    try:
        room = float(given) * 1e9
    except ValueError:
        raise UserError(f"RLLIB_WIRELESS_CACHE_GB = {given}, but it should be a number") from None
    for entry in entries:
        try:
            room -= entry.stat().st_size
            if room < 0 and entry != newest:
                entry.unlink()
        except FileNotFoundError:  # another process made room
            continue


def _last_use(entry: Path) -> float:
    return entry.stat().st_mtime if entry.exists() else 0.0


def _array(data: Array, dtype: str, shape: list[int], data_offsets: list[int]) -> Array:
    return data[slice(*data_offsets)].view(_DTYPES[dtype]).reshape(shape)


def _unflatten(arrays: dict[str, Array]) -> Content:
    batches: dict[str, Columns] = {}
    for name, values in arrays.items():
        batch, _, column = name.rpartition("/")
        batches.setdefault(batch, {})[column] = values
    state = batches.pop(STATE, None)
    return Content(batches, state)
