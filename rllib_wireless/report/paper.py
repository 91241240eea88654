"""A paper's results as a page."""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rllib_wireless import papers
from rllib_wireless.errors import UserError
from rllib_wireless.papers.experiment import read_json
from rllib_wireless.report.describe import command, in_words, measured, value_in_words, versions
from rllib_wireless.report.page import Facts, Page, Part, Picture, Pictures, Section, Table, Text, Verdict
from rllib_wireless.report.vector import drawings
from rllib_wireless.tracking import flat

Json = Mapping[str, Any]

_SCALES = ("demo", "paper")


def page(folder: Path) -> Page:
    """Claims, figures, policies, studies, and what all of it was computed with."""
    path = folder / "results.json"
    content = read_json(path)
    # Only names of this package are imported: a file of results decides nothing about what is run.
    known = [module.name for module in pkgutil.iter_modules(papers.__path__) if module.ispkg]
    if content.get("paper") not in known:
        raise UserError(f"{path} is of {content.get('paper')!r}, but papers are {', '.join(known)}")
    module = importlib.import_module(f"rllib_wireless.papers.{content['paper']}")
    sections = [
        Section("Claims", _claims(content["claims"], module.main_claims(content))),
        Section("Figures", [Pictures(_pictures(folder, partial(module.draw, content)))]),
        Section("Comparison", [_comparison(module.table(content))]),
        Section("Studies", sections=_studies(content)),
        Section("Settings", _settings(content["settings"])),
        Section("Time and versions", _cost(content)),
    ]
    lead = inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    scale = content["scale"]
    again = command("reproduce", content["paper"], scale=scale, out=folder.name) if scale in _SCALES else None
    return Page(f"Results of {content['paper']}, scale {scale}", lead, path, again, [s for s in sections if _holds(s)])


def _holds(section: Section) -> bool:
    return bool(section.parts or section.sections)


def _claims(every: Sequence[Json], main: Sequence[Json]) -> list[Part]:
    verdicts = [_verdict(claim) for claim in every]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in Verdict if verdict in verdicts)
    parts: list[Part] = [Text(f"{len(every)} claims: {counts}." if every else "No claim can be judged yet.")]
    if main:
        parts.append(_claims_table("Claims and what was measured", main))
    if len(main) < len(every):
        parts.append(_claims_table(f"All {len(every)} claims", every, folded=True))
    return parts


def _claims_table(caption: str, claims: Sequence[Json], folded: bool = False) -> Table:
    columns = ("verdict", "claim", "measured", "95 % from", "to", "in the paper")
    rows = [(_verdict(c), c["claim"], c["measured"], *c["interval"], c["paper"]) for c in claims]
    return Table(caption, columns, rows, folded, names=1)


def _verdict(claim: Json) -> Verdict:
    if None in claim["interval"]:
        return Verdict.UNDECIDED
    return Verdict.MET if claim["met"] else Verdict.NOT_MET


def _pictures(folder: Path, draw: Any) -> list[Picture]:
    """The figures that the paper's module draws, then those that it does not draw as they were kept."""
    drawn = drawings(draw)
    kept = [path for path in sorted(folder.glob("*.png")) if path.stem not in drawn]
    return [
        *(Picture(_caption(name), svg) for name, svg in drawn.items()),
        *(Picture(_caption(path.stem), png=path.read_bytes()) for path in kept),
    ]


def _caption(name: str) -> str:
    return "Main figure." if name == "figure" else f"Figure: {in_words(name).replace('-', ' ')}."


def _comparison(rows: Sequence[Json]) -> Table:
    metrics = [name for row in rows[:1] for name in row if name != "policy"]
    shown = [(row["policy"], *(measured(row[name]) for name in metrics)) for row in rows]
    return Table("Mean and 95 % interval", ("policy", *map(in_words, metrics)), shown)


def _studies(content: Json) -> list[Section]:
    found = []
    for name, rows in content.get("studies", {}).items():
        if rows:
            arms = list(rows[0]["arm"])
            metrics = list(dict.fromkeys(metric for row in rows for metric in row["metrics"]))
            shown = [
                (*(row["arm"][arm] for arm in arms), *(measured(row["metrics"].get(metric)) for metric in metrics))
                for row in rows
            ]
            title = in_words(name).capitalize()
            table = Table("Mean and 95 % interval over seeds", (*arms, *map(in_words, metrics)), shown)
            found.append(Section(title, [table]))
    return found


def _settings(settings: Json) -> list[Part]:
    found = {name: value_in_words(value) for name, value in flat(settings).items()}
    seeds = {name: value for name, value in found.items() if "seed" in name}
    rest = [(name, value) for name, value in found.items() if name not in seeds]
    return [
        Table("Seeds", ("setting", "value"), list(seeds.items()), folded=False),
        Table("Everything else", ("setting", "value"), rest),
    ]


def _cost(content: Json) -> list[Part]:
    seconds = content["seconds"]
    rows: list[tuple[str, object]] = [("seconds, all parts together", f"{sum(seconds.values()):,.0f}")]
    if cells := content.get("cells"):
        rows.append(("parts that are done", f"{cells['done']} of {cells['of']}"))
    return [
        Facts(rows),
        versions(content["versions"]),
        Table("Seconds of each part", ("part", "seconds"), list(seconds.items()), folded=True),
    ]
