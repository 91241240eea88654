"""What `data import` says of the logs it read."""

from rich.table import Table

from rllib_wireless.cli.options import summary
from rllib_wireless.data.importer import ImportReport
from rllib_wireless.tables import table


def understood(report: ImportReport) -> list[Table | str]:
    """All that was understood, as `--dry-run` shows it."""
    card = report.card
    env = card.environment
    agents = [(name, a.transitions, a.dropped, _number(a.return_mean)) for name, a in card.agents.items()]
    limits = zip(env.obs_names, env.obs_low, env.obs_high, strict=True)
    observed = [(name, low, high, *map(_number, report.observed.get(name, (None, None)))) for name, low, high in limits]
    total = max(sum(report.actions), 1)
    actions = [(action, count, f"{100 * count / total:.1f} %") for action, count in enumerate(report.actions)]
    columns = [(name, ", ".join(roles) or "not used") for name, roles in report.roles.items()]
    return [
        table("Columns", ("column", "used for"), columns),
        table("Agents", ("agent", "rows", "left out", "mean return of an episode"), agents),
        table("Observation", ("column", "low", "high", "smallest seen", "largest seen"), observed),
        table("Actions", ("action", "rows", "share"), actions),
        table("First rows", *_transposed(report.first)),
        *rejected(report),
        lines(report),
        f"{env.name}: {summary(card)}, {card.episodes} episodes",
    ]


def rejected(report: ImportReport) -> list[Table | str]:
    """Why rows were rejected; nothing where none was."""
    rows = [(r["count"], r["reason"], r["line"], r["value"][:40]) for r in report.reasons]
    return [table("Rejected rows", ("rows", "reason", "first line", "its value"), rows)] if rows else []


def lines(report: ImportReport) -> str:
    """What became of the lines, in one."""
    gaps, longest = report.gaps["count"], report.gaps["longest"]
    return (
        f"{report.lines:,} rows of logs: {report.rejected:,} rejected, {report.duplicates:,} duplicates, "
        f"{report.incomplete:,} steps that lack an agent, {gaps:,} gaps"
        + (f", the longest of {longest:,} steps" if gaps else "")
    )


def _transposed(rows: list[dict[str, object]]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Rows as columns of a table."""
    names = list(rows[0]) if rows else []
    return ("column", *(f"row {i + 1}" for i in range(len(rows)))), [
        (n, *(_short(row[n]) for row in rows)) for n in names
    ]


def _short(value: object) -> str:
    if isinstance(value, list):
        return " ".join(_short(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> float | str:
    return "" if value is None else value
