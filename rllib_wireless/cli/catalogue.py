"""What there is: list."""

from typing import Annotated

import typer

from rllib_wireless import tables
from rllib_wireless.cli.options import Json, algorithms, environments
from rllib_wireless.console import Output

app = typer.Typer()


def _names(incomplete: str) -> list[str]:
    return environments(incomplete) + algorithms(incomplete)


@app.command(name="list")
def list_(
    name: Annotated[
        str | None, typer.Argument(help="Only this environment or algorithm.", autocompletion=_names)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show environments with fields, rules and metrics, and algorithms with settings and what they need."""
    from rllib_wireless import catalogue

    with Output(as_json) as out:
        content = catalogue.describe(name)
        out.result(content, *tables.catalogue(content))
