"""Options that several commands have, and what several of them say."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rllib_wireless.errors import UserError


def environments(incomplete: str) -> list[str]:
    """Names that a shell may complete to."""
    from rllib_wireless.envs import env_names

    return [name for name in env_names() if name.startswith(incomplete)]


def algorithms(incomplete: str) -> list[str]:
    """Names that a shell may complete to."""
    from rllib_wireless.algorithms.registry import VARIANTS, algorithm_names

    return [name for name in (*algorithm_names(), *VARIANTS) if name.startswith(incomplete)]


Env = Annotated[str, typer.Option("--env", help="Name of the environment.", autocompletion=environments)]
EnvIfAny = Annotated[str | None, typer.Option("--env", help="Name of the environment.", autocompletion=environments)]
AlgorithmIfAny = Annotated[
    str | None, typer.Argument(metavar="ALGO", help="Name of the algorithm.", autocompletion=algorithms)
]
Config = Annotated[list[str], typer.Option("--config", "-c", metavar="K=V", help="A field of the environment.")]
Settings = Annotated[list[str], typer.Option("--set", "-s", metavar="K=V", help="A parameter of algorithm or rule.")]


def _on_this_machine(path: Path | None) -> Path | None:
    from rllib_wireless.storage import is_remote

    if path is not None and is_remote(path):
        raise UserError(f"--out {path}: only `collect` writes to a URI; give a folder")
    return path


Out = Annotated[Path, typer.Option("--out", help="Where to write.", callback=_on_this_machine)]
OutIfAny = Annotated[Path | None, typer.Option("--out", help="Where to write.", callback=_on_this_machine)]
OutAnywhere = Annotated[Path, typer.Option("--out", help="Where to write: a folder, or a URI such as s3://bucket/key.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**32 - 1)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Wandb = Literal["off", "offline", "online"]


def summary(card: Any) -> str:
    """A data set in one line, from its card."""
    rows = sum(agent.transitions for agent in card.agents.values())
    return f"{card.steps:,} joint steps, {rows:,} rows of {len(card.agents)} agents"
