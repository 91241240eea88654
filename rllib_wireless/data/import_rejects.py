"""Rows of logs that cannot be used: which, and why."""

import csv
from pathlib import Path
from typing import IO, Any

from rllib_wireless.data.import_source import Reject
from rllib_wireless.errors import DataError


class Rejects:
    """Rejected rows: listed in a file, and counted by reason.

    Args:
        path: The file, which is written once there is something to list; None for no list.

    Attributes:
        count: How many there are.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, tuple[int, Reject]] = {}
        self._file: IO[str] | None = None
        self.count = 0

    def add(self, rejects: list[Reject]) -> None:
        """Take in some, and write them in the order of their lines."""
        self.count += len(rejects)
        for reject in sorted(rejects, key=lambda r: r.line):
            count, first = self._found.get(reject.reason, (0, reject))
            self._found[reject.reason] = count + 1, min(first, reject, key=lambda r: r.line)
        if rejects and self._path is not None:
            if self._file is None:
                self._file = self._path.open("w", newline="", encoding="utf-8", errors="replace")
                self._list = csv.writer(self._file)
                self._list.writerow(("line", "reason", "value"))
            self._list.writerows((r.line, r.reason, r.value) for r in sorted(rejects, key=lambda r: r.line))

    def reasons(self) -> list[dict[str, Any]]:
        """Why rows were rejected, the most frequent reason first."""
        found = sorted(self._found.items(), key=lambda item: -item[1][0])
        return [{"reason": reason, "count": n, "line": r.line, "value": r.value} for reason, (n, r) in found]

    def check(self, lines: int, most: float, path: Path) -> None:
        """Raise where there are too many.

        Raises:
            DataError: Naming the reasons, and where each is met first.
        """
        if self.count <= most * lines:
            return
        reasons = [
            f"{found['count']:,} x {found['reason']} (first in line {found['line']}"
            + (f": {found['value']!r})" if found["value"] else ")")
            for found in self.reasons()
        ]
        raise DataError(
            f"{self.count:,} of {lines:,} rows cannot be used, more than a share of {most:g} (--max-rejects); "
            f"--rejects FILE lists them: {'; '.join(reasons[:6])}" + ("; ..." if len(reasons) > 6 else ""),
            path,
        )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
