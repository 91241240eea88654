"""Writing a data set: lines into files, and the card first and last."""

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from rllib_wireless.data.card import Card, FileCard, write_card
from rllib_wireless.errors import UserError

FILE_BYTES = 256 * 2**20
"""A new file begins once one has grown to this."""


class DatasetWriter:
    """Writes one data set; used as a context manager, an error leaves it incomplete.

    Args:
        folder: Where to; it must not exist, or be empty.
        card: The card, which is written at once, as incomplete.
        file_bytes: Size from which on a new file begins.

    Raises:
        UserError: Where the folder holds something already.
    """

    def __init__(self, folder: Path, card: Card, file_bytes: int = FILE_BYTES) -> None:
        self.folder, self._card, self._file_bytes = folder, card, file_bytes
        self._files: list[FileCard] = []
        make_empty_folder(folder)
        write_card(dataclasses.replace(card, complete=False, files=()), folder)
        self._open_file()

    def write(self, line: bytes) -> None:
        """Write one line; a writer killed in the middle leaves a broken last line and nothing else."""
        if self._bytes >= self._file_bytes:
            self._close_file()
            self._open_file()
        view = memoryview(line)
        while view:
            view = view[self._file.write(view) :]
        self._sha256.update(line)
        self._bytes += len(line)
        self._lines += 1

    def close(self, **result: Any) -> Card:
        """Close the card as complete.

        Args:
            **result: Fields of the card that are only known now.
        """
        self._close_file()
        self._card = dataclasses.replace(self._card, complete=True, files=tuple(self._files), **result)
        write_card(self._card, self.folder)
        return self._card

    def abandon(self) -> None:
        """Close the file and leave the data set incomplete."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def _open_file(self) -> None:
        self._path = self.folder / f"part-{len(self._files):05d}.json"
        # Unbuffered: a line is in the hands of the system once `write` returns.
        self._file = self._path.open("xb", buffering=0)
        self._sha256, self._bytes, self._lines = hashlib.sha256(), 0, 0

    def _close_file(self) -> None:
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()
            self._files.append(FileCard(self._path.name, self._bytes, self._lines, self._sha256.hexdigest()))


def make_empty_folder(folder: Path) -> None:
    """Make a folder to write into.

    Raises:
        UserError: Where it holds something already, or is no folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; give another output folder")
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def replaced_when_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` at the end, and is removed at an error.

    Raises:
        UserError: Where `folder` holds something already.
    """
    make_empty_folder(folder)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary / folder.name
        (temporary / folder.name).replace(folder)
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    finally:
        shutil.rmtree(temporary)
