"""The command line. Every command is a few lines around one public function, imported when the command runs."""

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rllib_wireless import __version__, cluster, tables
from rllib_wireless.cli import data, learning, selection, sweeps
from rllib_wireless.cli.options import Json, Out
from rllib_wireless.console import Output
from rllib_wireless.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
app.add_typer(learning.app)
app.add_typer(sweeps.app)
app.add_typer(selection.app)
app.add_typer(data.app, name="data")

_INTERRUPTED = 130  # what Typer makes of Ctrl-C, as shells do


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2, Ctrl-C exit code 130."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    if arguments in ([], ["data"]):
        arguments = [*arguments, "--help"]
    try:
        code: int = app(arguments, prog_name="rllib-wireless", standalone_mode=False, obj=arguments) or 0
    except (UserError, typer.TyperException) as error:
        return _mistake(error.format_message() if isinstance(error, typer.TyperException) else str(error))
    except OSError as error:
        if error.filename is None:
            raise
        return _mistake(f"{error.filename}: {error.strerror}")
    except MemoryError as error:
        return _mistake(f"there is too little memory: {error}")
    if code == _INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return code


def _mistake(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"rllib-wireless {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Offline multi-agent reinforcement learning for wireless networks, on Ray RLlib's new API stack."""


@app.command(name="list")
def list_(
    name: Annotated[str | None, typer.Argument(help="Only this environment or algorithm.")] = None,
    as_json: Json = False,
) -> None:
    """Show environments with fields, rules and metrics, and algorithms with settings and what they need."""
    from rllib_wireless import catalogue

    with Output(as_json) as out:
        content = catalogue.describe(name)
        out.result(content, *tables.catalogue(content))


@app.command()
def reproduce(
    paper: Annotated[
        Literal["fedmorl", "ctde_cql", "dcc", "scam_fqi", "selection", "tuning"], typer.Argument(help="Which paper.")
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


cluster.on_clusters(app)  # last, so that it knows all commands
