"""What a policy is worth, from logs alone."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rllib_wireless.cli.options import Json, Seed, Settings
from rllib_wireless.console import Output, key_values

app = typer.Typer()


@app.command()
def estimate(
    policy: Annotated[str, typer.Argument(help="The folder of a trained policy or training run.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set.")],
    method: Annotated[
        Literal["fqe", "importance", "model"],
        typer.Option(help="Fitted Q evaluation, importance sampling, or rollouts in FedMORL's world model."),
    ] = "fqe",
    view: Annotated[
        Literal["auto", "team", "agents"], typer.Option(help="Joint decisions, or each agent's as if alone.")
    ] = "auto",
    settings: Settings = [],  # noqa: B006
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Estimate from a log, without a simulator, what a policy would earn."""
    from rllib_wireless import tables
    from rllib_wireless.tuning import estimate as estimate_

    with Output(as_json) as out:
        chosen = key_values(settings, "--set")
        found = estimate_(
            policy, data, method=method, view=view, seed=seed, progress=out.progress("estimate"), **chosen
        ).to_json()
        row = (found["method"], found["value"], *found["ci95"], found["unit"], found["n"])
        columns = ("method", "value", "95 % from", "to", "unit", "rows")
        out.result(found, tables.table(f"{policy} on {data}", columns, [row]), *found["notes"])
