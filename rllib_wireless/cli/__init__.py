"""The command line. Every command is a few lines around one public function, imported when the command runs."""

import sys
from typing import Annotated

import typer

from rllib_wireless import __version__, cluster
from rllib_wireless.cli import catalogue, data, deployment, learning, papers, reporting, selection, sweeps
from rllib_wireless.errors import UserError

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
# In the order in which they are used, and shown.
for part in (catalogue, learning, selection, sweeps, deployment, reporting, papers):
    app.add_typer(part.app)
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


cluster.on_clusters(app)  # last, so that it knows all commands
