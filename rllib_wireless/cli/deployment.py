"""A trained policy in the form that its device runs."""

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from rllib_wireless.cli.options import Json, Out, Settings
from rllib_wireless.console import Output, key_values
from rllib_wireless.errors import UserError

app = typer.Typer()


@app.command()
def export(
    policy: Annotated[str, typer.Argument(help="Folder or URI of a trained policy or training run.")],
    out: Out,
    format_: Annotated[Literal["onnx"], typer.Option("--format", help="What to write.")] = "onnx",
    agent: Annotated[str | None, typer.Option(help="Only this agent's file.")] = None,
    settings: Settings = [],  # noqa: B006  Typer's way to declare an option that repeats
    as_json: Json = False,
) -> None:
    """Write a policy as one file per agent that runs without this package, and compare each with the policy."""
    from rllib_wireless import storage, tables
    from rllib_wireless.policies.onnx import export_onnx

    with Output(as_json) as output:
        chosen = key_values(settings, "--set")
        if unknown := set(chosen) - {"mode", "epsilon"}:
            raise UserError(f"--set {min(unknown)}: an exported policy may have mode and epsilon")
        files = [asdict(file) for file in export_onnx(policy, out, agent=agent, **chosen)]
        columns = ("agent", "file", "kB", "us per decision", "in a batch of 256", "largest difference")
        content = {"policy": storage.name(policy), "format": format_, "files": files}
        output.result(content, tables.table(f"{policy} as {format_}", columns, [tuple(f.values()) for f in files]))
