"""Data sets and policies on shared storage: whatever `pyarrow.fs.FileSystem.from_uri` opens, such as `s3://bucket/key`.

A folder there is fetched once per node into the cache, and is then read as any local one, checksums included. Credentials come
from where PyArrow looks for them: environment variables, the user's configuration, or the role of the machine.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from rllib_wireless.errors import DataError, UserError

if TYPE_CHECKING:
    from pyarrow import fs  # type: ignore[import-untyped]  # imported where it is needed, since that takes a while

# `pathlib` makes one slash of two, and paths travel as such.
_URI = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):/+(?P<rest>.*)", re.DOTALL)


def cache_folder() -> Path:
    """Where everything lies that was read or fetched once."""
    if given := os.environ.get("RLLIB_WIRELESS_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rllib-wireless"


def is_remote(path: Path | str) -> bool:
    """Whether a path is a URI."""
    return _URI.fullmatch(str(path)) is not None


def name(path: Path | str) -> str:
    """A path as text; a URI with the slashes that it had."""
    found = _URI.fullmatch(str(path))
    if found is None:
        return str(path)
    return f"{found['scheme']}://{'/' if found['scheme'] == 'file' else ''}{found['rest']}"


def absolute(path: Path | str) -> str:
    """A path that means the same in any folder."""
    return name(path) if is_remote(path) else str(Path(path).absolute())


def join(path: Path | str, child: str) -> Path:
    """A path below another one; what a URI says after its question mark stays behind."""
    place, mark, query = str(path).partition("?")
    return Path(path) / child if not is_remote(path) else Path(f"{place}/{child}{mark}{query}")


def title(path: Path | str) -> str:
    """The last part of a path."""
    return Path(str(path).partition("?")[0] if is_remote(path) else path).name


def local(path: Path | str, names: Sequence[str] | None = None) -> Path:
    """A folder on this machine with the files of a folder anywhere; folders below it are left out.

    Args:
        path: The folder; one on this machine is returned as it is.
        names: Fetch these files alone.

    Raises:
        DataError: Where the storage cannot be reached, or holds no such folder.
    """
    if not is_remote(path):
        return Path(path)
    system, folder = _open(path)
    files = [f for f in _listing(system, folder, path) if f.is_file and (names is None or f.base_name in names)]
    content = [(f.base_name, f.size, f.mtime_ns) for f in files]
    key = [hashlib.sha256(part).hexdigest()[:20] for part in (name(path).encode(), orjson.dumps(content))]
    target = cache_folder() / "fetched" / "-".join(key) / (title(path) or "data")
    if not target.exists():
        _fetch(system, files, target, path)
    return target


def folders(path: Path | str) -> list[Path]:
    """The folders in a folder, in order, but for hidden ones.

    Raises:
        DataError: Where it is none, or the storage cannot be reached.
    """
    if not is_remote(path):
        if not Path(path).is_dir():
            raise DataError("there is no such folder", path)
        return sorted(child for child in Path(path).iterdir() if child.is_dir() and not child.name.startswith("."))
    from pyarrow import fs

    found = _listing(*_open(path), path)
    names = [f.base_name for f in found if f.type == fs.FileType.Directory and not f.base_name.startswith(".")]
    return [join(path, child) for child in sorted(names)]


def holds(path: Path | str, file: str) -> bool:
    """Whether there is such a file in a folder.

    Raises:
        DataError: Where the storage cannot be reached.
    """
    if not is_remote(path):
        return (Path(path) / file).is_file()
    system, folder = _open(path)
    with _told(path):
        return bool(system.get_file_info(f"{folder}/{file}").is_file)


@contextmanager
def uploaded(path: Path | str, last: str) -> Iterator[Path]:
    """A folder to write into, which then goes to `path`; files named `last` go last, the deepest first.

    Raises:
        UserError: Where `path` holds something already, or the storage cannot be reached.
    """
    if not is_remote(path):
        yield Path(path)
        return
    from pyarrow import fs

    system, folder = _open(path)
    with _told(path):
        if system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
            raise UserError(f"{name(path)} exists and is not empty; give another output folder")
    with tempfile.TemporaryDirectory(prefix="rllib-wireless-") as temporary:
        yield Path(temporary) / "data"
        files = [file for file in (Path(temporary) / "data").rglob("*") if file.is_file()]
        for file in sorted(files, key=lambda file: (file.name == last, -len(file.parts), file)):
            target = f"{folder}/{file.relative_to(Path(temporary) / 'data').as_posix()}"
            with _told(path):
                system.create_dir(target.rpartition("/")[0])
                with file.open("rb") as source, system.open_output_stream(target) as sink:
                    shutil.copyfileobj(source, sink, 2**22)


def _open(path: Path | str) -> tuple["fs.FileSystem", str]:
    """The file system that a URI names, and the path there."""
    from pyarrow import fs

    uri = name(path)
    if "@" in uri.partition("://")[2].partition("/")[0]:
        raise UserError(
            f"{uri.partition('://')[0]}://...: credentials belong into environment variables, not into a URI"
        )
    try:
        system, folder = fs.FileSystem.from_uri(uri)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"this storage cannot be opened: {_line(error)}", uri) from None
    return system, folder


def _listing(system: "fs.FileSystem", folder: str, path: Path | str) -> list["fs.FileInfo"]:
    from pyarrow import fs

    with _told(path):
        found: list[fs.FileInfo] = system.get_file_info(fs.FileSelector(folder))
    return sorted(found, key=lambda f: str(f.base_name))


def _fetch(system: "fs.FileSystem", files: Sequence["fs.FileInfo"], target: Path, path: Path | str) -> None:
    """Fetch files into a folder, which appears when it is whole."""
    parent = target.parent.parent
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".", dir=parent))
    try:
        (temporary / target.name).mkdir()
        for file in files:
            with _told(path), (temporary / target.name / file.base_name).open("wb") as sink:
                shutil.copyfileobj(system.open_input_stream(file.path), sink, 2**22)
        try:
            temporary.rename(target.parent)
        except OSError:
            if not target.exists():  # another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _told(path: Path | str) -> Iterator[None]:
    """Say in one line what the storage did not do."""
    try:
        yield
    except FileNotFoundError:
        raise DataError("there is no such folder", name(path)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"the storage says: {_line(error)}", name(path)) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
