"""A folder as a page: report."""

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from rllib_wireless.cli.options import Json
from rllib_wireless.console import Output

app = typer.Typer()


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A training run, a sweep, a paper's results or a data set.")
    ],
    out: Annotated[Path | None, typer.Option(help="The page; report.html in the folder if not given.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Make one self-contained HTML page about a folder."""
    from rllib_wireless.report import report as report_

    with Output(as_json) as output:
        path = report_(folder, out)
        if show and not webbrowser.open(path.resolve().as_uri()):
            output.note("there is no browser to open it with")
        output.result({"out": str(path), "bytes": path.stat().st_size}, str(path))
