"""From an environment to a policy and its figures: collect, train, evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rllib_wireless import tables
from rllib_wireless.cli.options import (
    AlgorithmIfAny,
    Config,
    Env,
    EnvIfAny,
    Json,
    Out,
    OutAnywhere,
    Seed,
    Settings,
    Wandb,
    environments,
    summary,
)
from rllib_wireless.console import Output, key_values, of_rule
from rllib_wireless.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer()


@app.command()
def collect(
    env: Annotated[str, typer.Argument(help="Name of the environment.", autocompletion=environments)],
    policy: Annotated[list[str], typer.Option(metavar="NAME[:SHARE]", help="A rule or a trained policy's folder.")],
    steps: Annotated[int, typer.Option(help="Joint steps in total.")],
    out: OutAnywhere,
    config: Config = [],  # noqa: B006  Typer's way to declare an option that repeats
    settings: Settings = [],  # noqa: B006
    split: Annotated[Literal["none", "agents"], typer.Option(help="One folder, or one per agent.")] = "none",
    rows: Annotated[Literal["decisions", "all"], typer.Option(help="Only decisions, or every step.")] = "decisions",
    num_envs: Annotated[int, typer.Option(help="Copies that each policy runs.")] = 16,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Let policies act in an environment and record what happens."""
    from dataclasses import asdict

    from rllib_wireless import data
    from rllib_wireless.storage import name

    with Output(as_json) as output:
        progress = output.progress("collect")
        card = data.collect(
            env,
            key_values(config, "--config"),
            _behaviours(policy, key_values(settings, "--set")),
            steps,
            out,
            seed=seed,
            num_envs=num_envs,
            split=split,
            rows=rows,
            progress=lambda done, wanted: progress(done / wanted),
        )
        output.result({"out": name(out), "card": asdict(card)}, f"{name(out)}: {summary(card)}")


@app.command()
def train(
    out: Out,
    algorithm: AlgorithmIfAny = None,
    env: EnvIfAny = None,
    data: Annotated[Path | None, typer.Option(help="Folder or URI of the data set.")] = None,
    config: Config = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
    iterations: Annotated[int | None, typer.Option(help="How many; the algorithm's own number if not given.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    max_failures: Annotated[
        int, typer.Option(help="Lost processes after which to go on from the last checkpoint.", min=0)
    ] = 0,
    online: Annotated[
        Path | None, typer.Option(metavar="POLICY", help="Go on from this policy, online; see -s online.NAME=VALUE.")
    ] = None,
    again: Annotated[Path | None, typer.Option("--run", help="Do what this run.yaml says.")] = None,
    wandb: Annotated[Wandb, typer.Option(help="Log with Weights & Biases.")] = "off",
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train an algorithm; `train --resume --out DIR` alone goes on with the run in that folder."""
    from rllib_wireless.algorithms.training import repeat_run, resume_run
    from rllib_wireless.algorithms.training import train as train_

    with Output(as_json) as output:
        run_arguments: dict[str, Any] = {
            "iterations": iterations,
            "max_failures": max_failures,
            "wandb": wandb,
            "tensorboard": tensorboard,
            "progress": _iterations(output),
        }
        if again is not None:
            if algorithm or env or data or config or settings or online:
                raise UserError(
                    f"--run {again} says all of it: give neither ALGO nor --env, --data, --online, -c and -s"
                )
            row = repeat_run(again, out, resume=resume, **run_arguments)
        elif resume and algorithm is None and env is None:
            row = resume_run(out, **run_arguments)
        elif algorithm is None or env is None:
            missing = "ALGO" if algorithm is None else "--env"
            raise UserError(f"{missing} is missing: give train ALGO --env ENV, or --resume alone")
        else:
            own, of_online = _apart(key_values(settings, "--set"), "online.")
            if of_online and online is None:
                raise UserError(f"-s online.{min(of_online)} goes with --online POLICY")
            row = train_(
                algorithm,
                env,
                out=out,
                data=data,
                env_config=key_values(config, "--config"),
                settings=own,
                online=None if online is None else {"policy": online, **of_online},
                seed=seed,
                resume=resume,
                **run_arguments,
            )
        output.result({"out": str(out), "result": row}, f"{out}: {row['iteration']} iterations")


@app.command()
def evaluate(
    policy: Annotated[str, typer.Argument(help="A rule, or folder or URI of a trained policy or training run.")],
    env: Env,
    config: Config = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
    num_envs: Annotated[int, typer.Option(help="Copies that run side by side.")] = 64,
    steps: Annotated[int | None, typer.Option(help="Decision epochs per copy.")] = None,
    episodes: Annotated[int | None, typer.Option(help="Whole episodes, in place of --steps.")] = None,
    warmup: Annotated[int, typer.Option(help="Decision epochs per copy before those that count.")] = 0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure a policy."""
    from rllib_wireless.policies import evaluation

    with Output(as_json) as out:
        measured = evaluation.evaluate(
            policy,
            env,
            key_values(config, "--config"),
            params=key_values(settings, "--set"),
            num_envs=num_envs,
            steps=steps,
            episodes=episodes,
            warmup_steps=warmup,
            seed=seed,
            progress=out.progress("evaluate"),
        )
        content = measured.to_json()
        rows = {"copy": "copies", "episode": "episodes"}[measured.unit]
        out.result(content, tables.metrics(f"{policy} in {env}, {measured.num_rows} {rows}", content))


def _apart(settings: dict[str, Any], prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings whose names do not begin so, and those that do, without it."""
    meant = {name.removeprefix(prefix): value for name, value in settings.items() if name.startswith(prefix)}
    return {name: value for name, value in settings.items() if not name.startswith(prefix)}, meant


def _behaviours(policies: list[str], settings: dict[str, Any]) -> list[Any]:
    """`NAME[:SHARE]` options as Behaviours with the settings that are theirs."""
    from rllib_wireless.data import Behaviour

    named = []
    for item in policies:
        name, colon, text = item.rpartition(":")
        try:
            named.append((name, float(text)) if colon else (item, 1.0))
        except ValueError:
            named.append((item, 1.0))  # a path may hold a colon
    rules = [name for name, _ in named]
    return [Behaviour(name, share, of_rule(settings, name, rules)) for name, share in named]


def _iterations(output: Output) -> "Callable[[dict[str, Any], float | None], None]":
    """Progress of a training run: the share that is done, or which iteration it is where its end is not known."""
    bar = output.progress("train")

    def report(row: dict[str, Any], share: float | None) -> None:
        if share is None:
            output.note(f"train: iteration {row['iteration']}" + (f", {row['phase']}" if "phase" in row else ""))
        else:
            bar(share)

    return report
