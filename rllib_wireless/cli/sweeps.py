"""Searching settings: tune."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rllib_wireless import tables
from rllib_wireless.cli.options import AlgorithmIfAny, Config, EnvIfAny, Json, Out, Seed, Settings, Wandb
from rllib_wireless.console import Output, key_values
from rllib_wireless.errors import UserError

app = typer.Typer()


@app.command()
def tune(
    out: Out,
    algorithm: AlgorithmIfAny = None,
    env: EnvIfAny = None,
    data: Annotated[Path | None, typer.Option(help="Folder or URI of the data set.")] = None,
    config: Config = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
    search: Annotated[
        list[str], typer.Option(metavar="K=LOW..HIGH[:log]", help="Search this setting between these, or in [A, B].")
    ] = [],  # noqa: B006
    trials: Annotated[int | None, typer.Option(help="Configurations in total.")] = None,
    iterations: Annotated[int | None, typer.Option(help="Of each training; the algorithm's own if not given.")] = None,
    seeds: Annotated[int, typer.Option(help="Seeds that every configuration is trained with.")] = 1,
    metric: Annotated[list[str], typer.Option(help="Objectives; the environment's own if not given.")] = [],  # noqa: B006
    select: Annotated[
        Literal["online", "offline"], typer.Option(help="Compare in the environment, or by recorded data alone.")
    ] = "online",
    select_data: Annotated[Path | None, typer.Option(help="The recorded data, if others than --data.")] = None,
    method: Annotated[
        Literal["fqe", "importance", "model"], typer.Option(help="How offline estimates are made.")
    ] = "fqe",
    estimate: Annotated[list[str], typer.Option(metavar="K=V", help="A parameter of the estimate.")] = [],  # noqa: B006
    every: Annotated[int | None, typer.Option(help="Iterations between two measurements.")] = None,
    scheduler: Annotated[
        Literal["asha", "median", "none"] | None, typer.Option(help="What ends trials that do badly.")
    ] = None,
    concurrent: Annotated[int | None, typer.Option(help="Trials side by side at most.")] = None,
    storage: Annotated[str | None, typer.Option(help="URL of a database for Optuna's study.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the sweep in --out.")] = False,
    wandb: Annotated[Wandb, typer.Option(help="Log with Weights & Biases.")] = "off",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Search an algorithm's settings; `tune --resume --out DIR` alone goes on with the sweep in that folder."""
    from rllib_wireless.tuning.sweep import resume_sweep
    from rllib_wireless.tuning.sweep import tune as tune_

    with Output(as_json) as output:
        arguments: dict[str, Any] = {
            "concurrent": concurrent,
            "wandb": wandb,
            "progress": output.progress("tune"),
            "note": output.note,
        }
        if resume and algorithm is None and env is None:
            content = resume_sweep(out, trials, **arguments)
        elif algorithm is None or env is None or trials is None:
            missing = "ALGO" if algorithm is None else "--env" if env is None else "--trials"
            raise UserError(f"{missing} is missing: give tune ALGO --env ENV --trials N, or --resume alone")
        else:
            content = tune_(
                algorithm,
                env,
                out=out,
                trials=trials,
                data=data,
                env_config=key_values(config, "--config"),
                settings=key_values(settings, "--set"),
                search=_texts(search),
                iterations=iterations,
                seeds=seeds,
                seed=seed,
                select=select,
                select_data=select_data,
                method=method,
                estimate_settings=key_values(estimate, "--estimate"),
                metrics=metric,
                every=every,
                scheduler=scheduler,
                storage=storage,
                resume=resume,
                **arguments,
            )
        output.result({"out": str(out), **content}, *tables.sweep(content, out))


def _texts(given: list[str]) -> dict[str, str]:
    """`K=DOMAIN` options, whose domains are read by the sweep."""
    texts = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not (name and equals and text):
            raise UserError(f"--search {item}: it should be name=low..high, name=low..high:log or name=[a, b]")
        texts[name] = text
    return texts
