"""Rows of logs in order: sorted within a window, each once, in episodes that end where the log has a gap."""

import numpy as np

from rllib_wireless.data.format import Columns
from rllib_wireless.data.import_rows import AGENT, EPISODE, LINE
from rllib_wireless.data.import_source import Reject
from rllib_wireless.envs.base import BoolArray, IntArray


class Sequence:
    """Puts rows in order of episode and time, and numbers the episodes.

    The newest `window` rows are kept back, so a row may come up to `window` rows late. Of rows of one agent and step the first is
    kept; others that say the same are duplicates, those that do not are rejected.

    Args:
        window: See above.
        gap: Steps without rows after which a new episode begins; None where only the logs say so.
        from_start: Whether time is counted from the start of an episode.
        together: Agents that must have a row in a step, or the step is left out and an episode ends; 0 where that is no matter.

    Attributes:
        duplicates: Rows that were there already.
        incomplete: Steps that were left out, as some agents had no row.
        gaps: Places where a new episode began after a gap.
        longest_gap: In steps.
        steps: Steps so far.
    """

    def __init__(self, window: int, gap: int | None, from_start: bool, together: int = 0) -> None:
        self._window, self._gap, self._from_start, self._together = window, gap, from_start, together
        self._kept: Columns = {}
        self._last: tuple[int, int] | None = None  # episode and time of what was given out last
        self._broken = False  # whether the step before was left out
        self._number, self._start = -1, 0
        self.duplicates = self.incomplete = self.gaps = self.longest_gap = self.steps = 0

    def push(self, rows: Columns, *, ends: bool = False) -> tuple[Columns, list[Reject]]:
        """Take in rows, and give out those that are old enough; all of them at the end.

        Returns:
            Rows with `eps_id`, in order, whole steps only; and what was rejected.
        """
        rows, rejects = self._in_time(rows)
        rows = (
            {name: np.concatenate([self._kept[name], values]) for name, values in rows.items()} if self._kept else rows
        )
        order = np.lexsort((rows[LINE], rows[AGENT], rows["t"], rows[EPISODE]))
        rows = {name: values[order] for name, values in rows.items()}
        rows, differing = self._once(rows)
        cut = len(rows["t"])
        if not ends:
            cut = max(cut - self._window, 0)
            new = _changes(rows[EPISODE], rows["t"])
            while cut > 0 and cut < len(new) and not new[cut]:
                cut -= 1
        self._kept = {name: values[cut:] for name, values in rows.items()}
        given = {name: values[:cut] for name, values in rows.items()}
        return self._episodes(given) if cut else {**given, "eps_id": given[EPISODE]}, rejects + differing

    def _in_time(self, rows: Columns) -> tuple[Columns, list[Reject]]:
        if self._last is None:
            return rows, []
        episode, t = self._last
        late = (rows[EPISODE] < episode) | ((rows[EPISODE] == episode) & (rows["t"] <= t))
        if not late.any():
            return rows, []
        reason = f"it comes more than {self._window:,} lines too late; sort the file by time, or set a larger window"
        rejects = [Reject(line, reason) for line in rows[LINE][late].tolist()]
        return {name: values[~late] for name, values in rows.items()}, rejects

    def _once(self, rows: Columns) -> tuple[Columns, list[Reject]]:
        new = _changes(rows[EPISODE], rows["t"], rows[AGENT])
        if new.all():
            return rows, []
        again = np.flatnonzero(~new)
        first = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))[again]
        same = np.ones(len(again), np.bool_)
        for name, values in rows.items():
            if name != LINE:
                equal = values[again] == values[first]
                same &= equal if equal.ndim == 1 else equal.all(1)
        self.duplicates += int(same.sum())
        lines = rows[LINE]
        rejects = [
            Reject(int(lines[row]), "another row of the same agent and step says otherwise", f"line {lines[earlier]}")
            for row, earlier in zip(again[~same], first[~same], strict=True)
        ]
        return {name: values[new] for name, values in rows.items()}, rejects

    def _episodes(self, rows: Columns) -> Columns:
        """Number the episodes, and count time from their starts."""
        episode, t = rows[EPISODE], rows["t"]
        before = self._last
        self._last = int(episode[-1]), int(t[-1])
        step = np.cumsum(_changes(episode, t)) - 1
        first = np.flatnonzero(_changes(episode, t))
        e, at = episode[first], t[first]  # of each step
        begins = np.append(before is None or before[0] != e[0], e[1:] != e[:-1])
        since = np.append(at[0] - (before[1] if before else at[0]), at[1:] - at[:-1])
        if self._gap is not None:
            gaps = ~begins & (since > self._gap)
            self.gaps += int(gaps.sum())
            self.longest_gap = max(self.longest_gap, int(since[gaps].max(initial=0)))
            begins |= gaps
        whole = np.bincount(step) == self._together if self._together else np.ones(len(first), np.bool_)
        self.incomplete += int((~whole).sum())
        used = np.flatnonzero(whole)
        self.steps += len(used)
        # A step that is left out ends an episode, too.
        begins = begins[used] | (np.diff(used, prepend=-1) > 1)
        begins[:1] |= self._broken
        self._broken = not whole[-1]
        number = self._number + np.cumsum(begins)
        start = np.append(self._start, at[used][begins])[number - self._number]
        self._number, self._start = int(np.append(self._number, number)[-1]), int(np.append(self._start, start)[-1])
        kept = whole[step]
        place = (np.cumsum(whole) - 1)[step][kept]
        rows = {name: values[kept] for name, values in rows.items()}
        rows["eps_id"] = number[place]
        if self._from_start:
            rows["t"] = rows["t"] - start[place]
        return rows


def _changes(*keys: IntArray) -> BoolArray:
    """Where a row differs from the one before it; the first one does."""
    changed: BoolArray = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.append(True, changed)[: len(keys[0])]
