"""What was measured, measured again: reproduce, bench."""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rllib_wireless import tables
from rllib_wireless.cli.options import Json, Out
from rllib_wireless.console import Output

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer()


@app.command()
def reproduce(
    paper: Annotated[
        Literal["fedmorl", "ctde_cql", "dcc", "scam_fqi", "selection", "tuning", "online"],
        typer.Argument(help="Which paper."),
    ],
    out: Out,
    scale: Annotated[Literal["demo", "paper"], typer.Option(help="How much to compute.")] = "demo",
    only: Annotated[str | None, typer.Option(metavar="CELL", help="Only cells whose name begins so.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes of --scale paper; the number of CPUs if not given.", min=1)
    ] = None,
    plot_only: Annotated[bool, typer.Option(help="Draw the figures again from results.json.")] = False,
    as_json: Json = False,
) -> None:
    """Run a paper's experiment, or what is missing of it, and compare."""
    module = importlib.import_module(f"rllib_wireless.papers.{paper}")
    with Output(as_json) as output:
        bars: dict[str, Callable[[float], None]] = {}

        def progress(cell: str, share: float | None) -> None:
            if cell not in bars:
                bars[cell] = output.progress(cell)
            if share is not None:
                bars[cell](share)

        content = module.reproduce(
            out,
            progress,
            output.note,
            scale=scale,
            only=only,
            workers=workers or os.cpu_count() or 1,
            plot_only=plot_only,
        )
        output.result(content, *tables.paper(module, content, out))


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which benchmarks; all if none.")
    ] = None,
    out: Out = Path("results/bench"),
    quick: Annotated[bool, typer.Option(help="Shorter and less exact.")] = False,
    as_json: Json = False,
) -> None:
    """Measure speed as ratios against named peers, in CPU time on this machine."""
    from rllib_wireless import benchmarks

    with Output(as_json) as output:
        content = benchmarks.run(names or [], out, quick=quick, progress=output.progress("bench"))
        output.result(content, tables.benchmarks(content))
