"""`rllib-wireless data import`: a user's own logs, in CSV or Parquet or as a pandas frame, become a data set.

A small mapping in YAML says which column is what:

    environment: channel_access        # or any name of your own
    env_config: {num_stations: 2}
    agent: station                     # the column that names the agent
    agents: {"0": station_0, "1": station_1}
    episode: run
    time: slot
    observations: [{channel: 4}, {sent: 2}, delay_share, queue_share]    # {column: n} is made one-hot over 0 ... n - 1
    actions: transmit
    rewards: reward

Logs are read, put in order and written piece by piece, so memory does not grow with them.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_wireless.data.assemble import known_environment
from rllib_wireless.data.card import Card, EnvironmentCard, versions
from rllib_wireless.data.format import COLUMNS, REQUIRED, Columns
from rllib_wireless.data.import_cells import integers
from rllib_wireless.data.import_mapping import Choice, ImportMapping, read_mapping
from rllib_wireless.data.import_order import Sequence
from rllib_wireless.data.import_rejects import Rejects
from rllib_wireless.data.import_rows import RowReader
from rllib_wireless.data.import_source import BLOCK_BYTES, Source
from rllib_wireless.data.import_write import Transitions, fragments
from rllib_wireless.data.writer import DatasetWriter, replaced_when_whole
from rllib_wireless.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

REJECTS = "rejects.csv"
"""The list of rejected rows, beside a data set's card."""

_SHOWN_ROWS = 3


@dataclass
class ImportReport:
    """What an import understood.

    Args:
        source: The logs.
        roles: What each column is used for; columns without a use have none.
        card: Of the data set, as it was or would be written.
        lines: Rows of the logs, rejected ones included.
        rejected: How many rows were rejected.
        reasons: Why: `reason`, `count`, and `line` and `value` of the first.
        duplicates: Rows that were there already.
        gaps: Gaps at which a new episode began, and the longest of them in steps.
        incomplete: Steps that were left out, as some agents had no row.
        actions: How often each action was taken.
        observed: Smallest and largest value of each column of the observation.
        first: The first transitions, with their agents.
    """

    source: str
    roles: dict[str, list[str]]
    card: Card
    lines: int = 0
    rejected: int = 0
    reasons: list[dict[str, Any]] = field(default_factory=list)
    duplicates: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    incomplete: int = 0
    actions: list[int] = field(default_factory=list)
    observed: dict[str, tuple[float, float]] = field(default_factory=dict)
    first: list[dict[str, Any]] = field(default_factory=list)


def import_data(
    source: "Path | str | pd.DataFrame",
    out: Path | str,
    mapping: ImportMapping | Mapping[str, Any] | Path | str,
    **options: Any,
) -> Card:
    """Turn logs into a data set.

    Args:
        source: A `.csv` or `.parquet` file, or a pandas frame.
        out: Folder to write; it must not exist, or be empty.
        mapping: Which column is what: an ImportMapping, a mapping of its fields, or the path of a YAML file of them.
        **options: `rejects`, `max_rejects` and `progress` of `import_log`.

    Raises:
        UserError: At a wrong mapping, or where `out` holds something already.
        DataError: At wrong logs, naming line and column.
    """
    return import_log(source, mapping, out, **options).card


def import_log(
    source: "Path | str | pd.DataFrame",
    mapping: ImportMapping | Mapping[str, Any] | Path | str,
    out: Path | str | None = None,
    *,
    rejects: Path | None = None,
    max_rejects: float = 0.01,
    progress: Callable[[float], None] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> ImportReport:
    """Turn logs into a data set, and tell what was understood of them.

    Args:
        source: A `.csv` or `.parquet` file, or a pandas frame.
        mapping: Which column is what.
        out: Folder to write; it must not exist, or be empty. Nothing is written where it is None.
        rejects: File that lists the rejected rows; `rejects.csv` in `out` if not given.
        max_rejects: Share of rejected rows above which nothing is written.
        progress: Called now and then with the share of a CSV file that is done.
        block_bytes: Bytes of a CSV file that are read at once; the result does not depend on it.

    Raises:
        UserError: At a wrong mapping, or where `out` holds something already.
        DataError: At too many wrong rows, or logs that make no data set.
    """
    if not 0.0 <= max_rejects <= 1.0:
        raise ConfigError("import", "max_rejects", max_rejects, "it should be a share, 0 to 1")
    m = read_mapping(mapping)
    opened = Source(source, m.delimiter)
    known = known_environment(m.environment, m.env_config)
    num_actions = _num_actions(m, known, opened, block_bytes)
    reader = RowReader(m, opened.names, opened.path, known, num_actions)
    run = _Import(m, opened, known, num_actions, reader, progress or (lambda share: None), block_bytes)
    with ExitStack() as stack:
        folder = None if out is None else stack.enter_context(replaced_when_whole(Path(out)))
        writer = None if folder is None else stack.enter_context(DatasetWriter(folder, run.card()))
        listed = Rejects(rejects if rejects is not None or folder is None else folder / REJECTS)
        stack.callback(listed.close)
        run.run(writer, listed)
        listed.check(run.lines, max_rejects, opened.path)
        card = run.card()
        if not any(agent.transitions for agent in card.agents.values()):
            raise DataError(
                "no transition could be made of it; a row needs a next one in its episode, or to end it"
                + (f"; {run.sequence.incomplete} steps lack an agent's row" if run.sequence.incomplete else ""),
                opened.path,
            )
        if writer is not None:
            given = {name: getattr(card, name) for name in ("environment", "columns", "agents", "steps", "episodes")}
            card = writer.close(**given)
    return run.report(card, listed)


class _Import:
    """One pass over the logs."""

    def __init__(
        self,
        m: ImportMapping,
        source: Source,
        known: EnvironmentCard | None,
        num_actions: int,
        reader: RowReader,
        progress: Callable[[float], None],
        block_bytes: int,
    ) -> None:
        self._m, self._source, self._known, self._num_actions = m, source, known, num_actions
        self._reader, self._progress, self._block_bytes = reader, progress, block_bytes
        together = len(dict.fromkeys(m.agents.values())) or (len(known.agents) if known else 0)
        if m.aligned and not together:
            raise ConfigError(m.owner, "aligned", True, "agents should list all agents that a step needs")
        is_clock = not isinstance(m.time, str)
        self._window = max(m.window, source.rows_in_memory)
        self.sequence = Sequence(self._window, m.gap_steps, is_clock, together if m.aligned else 0)
        self._transitions = Transitions(num_actions, m.gap_steps)
        self._first: list[dict[str, Any]] = []
        self.lines = 0

    def run(self, writer: DatasetWriter | None, rejects: Rejects) -> None:
        """Read all, and write what comes of it."""
        rows: Columns | None = None
        for piece in self._source.pieces(self._reader.columns, self._window, self._block_bytes):
            rows, refused = self._reader.read(piece)
            self.lines += len(rows["t"]) + len(refused)
            ordered, late = self.sequence.push(rows)
            rejects.add([*refused, *late])
            self._write(ordered, writer)
            if rejects.count == self.lines:
                break  # the mapping is wrong, or these are other logs
            if self._source.size:
                self._progress(min(self._source.bytes_read / self._source.size, 1.0))
        if rows is None:
            raise DataError("it has no rows", self._source.path)
        ordered, late = self.sequence.push({name: values[:0] for name, values in rows.items()}, ends=True)
        rejects.add(late)
        self._write(ordered, writer, ends=True)
        self._progress(1.0)

    def _write(self, rows: Columns, writer: DatasetWriter | None, *, ends: bool = False) -> None:
        found = self._transitions.push(rows, ends=ends)
        if len(self._first) < _SHOWN_ROWS:
            self._first += self._shown(found)
            del self._first[_SHOWN_ROWS:]
        if writer is not None:
            for fragment in fragments(found, self._reader.agents):
                writer.write(fragment.line())

    def _shown(self, found: dict[int, Columns]) -> list[dict[str, Any]]:
        rows = [
            {"agent": self._reader.agents[i], **{name: values[k].tolist() for name, values in columns.items()}}
            for i, columns in found.items()
            for k in range(min(_SHOWN_ROWS, len(columns["t"])))
        ]
        return sorted(rows, key=lambda row: (row["eps_id"], row["t"]))

    def card(self) -> Card:
        """The card of what has been read so far."""
        t = self._transitions
        agents = {
            name: card for name, card in t.cards(self._reader.agents).items() if self._known is None or card.transitions
        }
        environment = self._environment(tuple(agents))
        return Card(
            complete=False,
            kind="joint",
            environment=environment,
            rows="decisions",
            columns=tuple(name for name in COLUMNS if name in REQUIRED or name in t.columns),
            agents={agent: agents[agent] for agent in environment.agents if agent in agents},
            action_prob="exact" if self._m.action_prob is not None else "absent",
            steps=self.sequence.steps,
            episodes=t.episodes,
            versions=versions(),
            source=str(self._source.path),
        )

    def _environment(self, agents: tuple[str, ...]) -> EnvironmentCard:
        """Ours, or one that is known by these logs only: where the mapping names no bounds, they are those of the data."""
        if self._known is not None:
            return self._known
        reader, seen = self._reader, self._transitions
        low, high = reader.low.astype(np.float32), reader.high.astype(np.float32)
        if len(seen.low):
            low, high = np.where(np.isfinite(low), low, seen.low), np.where(np.isfinite(high), high, seen.high)
        listed = [agent for agent in dict.fromkeys(self._m.agents.values()) if agent in agents]
        return EnvironmentCard(
            name=self._m.environment,
            config={},
            agents=(*listed, *sorted(set(agents) - set(listed))),
            obs_low=tuple(low.tolist()),
            obs_high=tuple(high.tolist()),
            obs_names=reader.obs_names,
            num_actions=self._num_actions,
            gamma=self._m.gamma,
        )

    def report(self, card: Card, rejects: Rejects) -> ImportReport:
        """What was understood."""
        roles: dict[str, list[str]] = {name: [] for name in self._source.names}
        for column, role in self._m.roles():
            roles[column].append(role)
        seen = self._transitions
        limits = zip(seen.low.tolist(), seen.high.tolist(), strict=True)
        return ImportReport(
            source=str(self._source.path),
            roles={name: list(dict.fromkeys(given)) for name, given in roles.items()},
            card=card,
            lines=self.lines,
            rejected=rejects.count,
            reasons=rejects.reasons(),
            duplicates=self.sequence.duplicates,
            gaps={"count": self.sequence.gaps, "longest": self.sequence.longest_gap},
            incomplete=self.sequence.incomplete,
            actions=seen.action_counts.tolist(),
            observed=dict(zip(self._reader.obs_names, limits, strict=True)),
            first=self._first,
        )


def _num_actions(m: ImportMapping, known: EnvironmentCard | None, source: Source, block_bytes: int) -> int:
    """A: the environment's, the mapping's, or the largest of the logs, plus one."""
    if known is not None:
        return known.num_actions
    if m.num_actions is not None:
        return m.num_actions
    if isinstance(m.actions, Choice):
        return len(m.actions.values)
    largest = 0
    if m.actions in source.names:
        for piece in source.pieces([m.actions], m.window, block_bytes):
            cells = integers(piece.table[m.actions])
            largest = max(largest, int(cells.values[cells.problem == 0].max(initial=0)))
    return largest + 1
