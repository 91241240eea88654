"""`rllib-wireless data ...`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rllib_wireless import tables
from rllib_wireless.cli.options import Config, Json, Out, OutIfAny, Seed, summary
from rllib_wireless.console import Output, key_values
from rllib_wireless.errors import UserError

app = typer.Typer(rich_markup_mode=None, help="Check, describe, convert, import, merge and export data sets.")


@app.command()
def check(path: Path, as_json: Json = False) -> None:
    """Read a data set anew and compare it with its card and its environment."""
    from dataclasses import asdict

    from rllib_wireless import data

    with Output(as_json) as out:
        report = data.check(path)
        rows = sum(report.transitions.values())
        words = (
            f"{path}: in order, {report.kind}, {report.files} files, {rows:,} rows of {len(report.transitions)} agents"
        )
        out.result(asdict(report), words, *report.notes)


@app.command()
def info(path: Path, as_json: Json = False) -> None:
    """Describe a data set: where it comes from, and its statistics."""
    from rllib_wireless import data

    with Output(as_json) as out:
        content = data.info(path)
        out.result(content, *tables.data_info(content))


@app.command(name="sharing-graph")
def sharing_graph(
    path: Annotated[Path, typer.Argument(help="A joint data set with recorded states.")],
    out: Out,
    form: Annotated[
        Literal["compressed", "full"], typer.Option(help="Whether others would show little of their states, or all.")
    ] = "compressed",
    target: Annotated[
        Literal["advantage", "return", "reward"], typer.Option(help="What others' states should help to predict.")
    ] = "advantage",
    gamma: Annotated[float, typer.Option(help="Discount of a decision.", min=0.0, max=1.0)] = 0.99,
    iterations: Annotated[int, typer.Option(help="Decisions that an advantage looks ahead.", min=1)] = 5,
    max_neighbours: Annotated[int, typer.Option(help="Most others that an agent sees.", min=0)] = 8,
    within: Annotated[int | None, typer.Option(help="Most links between an agent and those it sees.", min=1)] = None,
    rows: Annotated[int, typer.Option(help="Decisions of each agent by which information is estimated.")] = 8000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Choose who should share with whom: a graph that production_scheduling's sharing_graph takes, and why."""
    from rllib_wireless.data.sharing_graph import select_sharing_graph

    with Output(as_json) as output:
        selection = select_sharing_graph(
            path,
            form=form,
            target=target,
            gamma=gamma,
            iterations=iterations,
            max_neighbours=max_neighbours,
            within=within,
            rows=rows,
            seed=seed,
            progress=output.progress("sharing-graph"),
        )
        from rllib_wireless.data.sharing_figure import draw_selection

        out.mkdir(parents=True, exist_ok=True)
        selection.graph.save(out / "graph.json", selection.agents)
        draw_selection(selection, out / "scores.png")
        output.result(
            selection.to_json(), *tables.sharing_graph(selection), f"{out / 'graph.json'}, {out / 'scores.png'}"
        )


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="RLlib's JSON, a file or a folder of files.")],
    out: Out,
    env: Annotated[str, typer.Option("--env", help="Where the data comes from, one of ours or any name.")] = "imported",
    config: Config = [],  # noqa: B006
    agent: Annotated[list[str], typer.Option(metavar="OLD=NEW", help="What an agent is called here.")] = [],  # noqa: B006
    num_actions: Annotated[int | None, typer.Option(help="Number of actions, if not the largest seen + 1.")] = None,
    trust_pickle: Annotated[bool, typer.Option(help="Unpickle packed columns, which RUNS CODE they carry.")] = False,
    as_json: Json = False,
) -> None:
    """Turn RLlib's own offline JSON into a data set."""
    from dataclasses import asdict

    from rllib_wireless import data

    with Output(as_json) as output:
        names = {old: str(new) for old, new in key_values(agent, "--agent").items()}
        card = data.convert(
            source,
            out,
            environment=env,
            env_config=key_values(config, "--config"),
            agents=names,
            num_actions=num_actions,
            trust_pickle=trust_pickle,
        )
        output.result({"out": str(out), "card": asdict(card)}, f"{out}: {summary(card)}")


@app.command(name="import")
def import_(
    source: Annotated[Path, typer.Argument(help="A .csv or .parquet file.")],
    mapping: Annotated[Path, typer.Option(help="YAML file that says which column is what.")],
    out: OutIfAny = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is understood, and write no data set.")] = False,
    rejects: Annotated[
        Path | None, typer.Option(help="File that lists rejected rows; rejects.csv in --out if not given.")
    ] = None,
    max_rejects: Annotated[float, typer.Option(help="Largest share of rejected rows.", min=0.0, max=1.0)] = 0.01,
    as_json: Json = False,
) -> None:
    """Turn your own logs into a data set."""
    from dataclasses import asdict

    from rllib_wireless.cli import import_tables
    from rllib_wireless.data.importer import import_log

    if (out is None) != dry_run:
        raise UserError("give either --out, where to write, or --dry-run")
    with Output(as_json) as output:
        progress = output.progress("import")
        report = import_log(source, mapping, out, rejects=rejects, max_rejects=max_rejects, progress=progress)
        found = asdict(report)
        card = found.pop("card")
        written = [*import_tables.rejected(report), import_tables.lines(report), f"{out}: {summary(report.card)}"]
        shown = import_tables.understood(report) if dry_run else written
        output.result({"out": None if out is None else str(out), "card": card, "report": found}, *shown)


@app.command()
def merge(
    paths: Annotated[list[Path], typer.Argument(help="Folders or URIs of data sets of one environment.")],
    out: Out,
    as_json: Json = False,
) -> None:
    """Join data sets of one environment."""
    from dataclasses import asdict

    from rllib_wireless import data

    with Output(as_json) as output:
        card = data.merge(paths, out)
        output.result({"out": str(out), "card": asdict(card)}, f"{out}: {summary(card)}")


@app.command()
def export(
    path: Path,
    agent: Annotated[str, typer.Option(help="Whose rows.")],
    out: Out,
    kind: Annotated[Literal["json", "parquet"], typer.Option("--format", help="RLlib JSON, or Parquet.")] = "parquet",
    as_json: Json = False,
) -> None:
    """Write one agent's rows for stock RLlib and other tools."""
    from rllib_wireless import data

    with Output(as_json) as output:
        written = data.export(path, out, agent=agent, kind=kind)
        output.result({"out": str(written), "agent": agent, "format": kind}, f"{written}: rows of {agent}")
