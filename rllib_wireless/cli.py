"""The command line. Every command is a few lines around one public function, imported when the command runs."""

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rllib_wireless import __version__, tables
from rllib_wireless.console import Output, key_values, of_rule
from rllib_wireless.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
data = typer.Typer(rich_markup_mode=None, help="Check, describe, convert, import and export data sets.")
app.add_typer(data, name="data")

Env = Annotated[str, typer.Option("--env", help="Name of the environment.")]
Config = Annotated[list[str], typer.Option("--config", "-c", metavar="K=V", help="A field of the environment.")]
Settings = Annotated[list[str], typer.Option("--set", "-s", metavar="K=V", help="A parameter of algorithm or rule.")]
Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**32 - 1)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Wandb = Literal["off", "offline", "online"]

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
        code: int = app(arguments, prog_name="rllib-wireless", standalone_mode=False) or 0
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
def collect(
    env: Annotated[str, typer.Argument(help="Name of the environment.")],
    policy: Annotated[list[str], typer.Option(metavar="NAME[:SHARE]", help="A rule or a trained policy's folder.")],
    steps: Annotated[int, typer.Option(help="Joint steps in total.")],
    out: Out,
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
        output.result({"out": str(out), "card": asdict(card)}, f"{out}: {_summary(card)}")


@data.command()
def check(path: Path, as_json: Json = False) -> None:
    """Read a data set anew and compare it with its card and its environment."""
    from dataclasses import asdict

    from rllib_wireless import data

    with Output(as_json) as out:
        report = data.check(path)
        rows = sum(report.transitions.values())
        words = (
            f"{path}: in order, {report.kind}, {report.files} files, {rows:,} rows of {len(report.transitions)} agents"
        )
        out.result(asdict(report), words, *report.notes)


@data.command()
def info(path: Path, as_json: Json = False) -> None:
    """Describe a data set: where it comes from, and its statistics."""
    from rllib_wireless import data

    with Output(as_json) as out:
        content = data.info(path)
        out.result(content, *tables.data_info(content))


@data.command(name="sharing-graph")
def sharing_graph(
    path: Annotated[Path, typer.Argument(help="A joint data set with recorded states.")],
    out: Out,
    form: Annotated[
        Literal["compressed", "full"], typer.Option(help="Whether others would show little of their states, or all.")
    ] = "compressed",
    target: Annotated[
        Literal["return", "reward"], typer.Option(help="What others' states should help to predict.")
    ] = "return",
    max_neighbours: Annotated[int, typer.Option(help="Most others that an agent sees.", min=0)] = 4,
    within: Annotated[int | None, typer.Option(help="Most links between an agent and those it sees.", min=1)] = None,
    rows: Annotated[int, typer.Option(help="Decisions of each agent that are looked at.")] = 4000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Choose who should share with whom: a graph that production_scheduling's sharing_graph takes, and why."""
    from rllib_wireless.data.sharing_graph import select_sharing_graph

    with Output(as_json) as output:
        selection = select_sharing_graph(
            path,
            form=form,
            target=target,
            max_neighbours=max_neighbours,
            within=within,
            rows=rows,
            seed=seed,
            progress=output.progress("sharing-graph"),
        )
        from rllib_wireless.data.sharing_figure import draw_selection

        out.mkdir(parents=True, exist_ok=True)
        selection.graph.save(out / "graph.json", selection.agents)
        draw_selection(selection, out / "scores.png")
        output.result(
            selection.to_json(), *tables.sharing_graph(selection), f"{out / 'graph.json'}, {out / 'scores.png'}"
        )


@data.command()
def convert(
    source: Annotated[Path, typer.Argument(help="RLlib's JSON, a file or a folder of files.")],
    out: Out,
    env: Annotated[str, typer.Option("--env", help="Where the data comes from, one of ours or any name.")] = "imported",
    config: Config = [],  # noqa: B006
    agent: Annotated[list[str], typer.Option(metavar="OLD=NEW", help="What an agent is called here.")] = [],  # noqa: B006
    num_actions: Annotated[int | None, typer.Option(help="Number of actions, if not the largest seen + 1.")] = None,
    trust_pickle: Annotated[bool, typer.Option(help="Unpickle packed columns, which RUNS CODE they carry.")] = False,
    as_json: Json = False,
) -> None:
    """Turn RLlib's own offline JSON into a data set."""
    from dataclasses import asdict

    from rllib_wireless import data

    with Output(as_json) as output:
        names = {old: str(new) for old, new in key_values(agent, "--agent").items()}
        card = data.convert(
            source,
            out,
            environment=env,
            env_config=key_values(config, "--config"),
            agents=names,
            num_actions=num_actions,
            trust_pickle=trust_pickle,
        )
        output.result({"out": str(out), "card": asdict(card)}, f"{out}: {_summary(card)}")


@data.command(name="import")
def import_(
    source: Annotated[Path, typer.Argument(help="A .csv or .parquet file.")],
    mapping: Annotated[Path, typer.Option(help="YAML file that says which column is what.")],
    out: Out,
    as_json: Json = False,
) -> None:
    """Turn your own logs into a data set."""
    from dataclasses import asdict

    from rllib_wireless import data

    with Output(as_json) as output:
        card = data.import_data(source, out, mapping)
        output.result({"out": str(out), "card": asdict(card)}, f"{out}: {_summary(card)}")


@data.command()
def export(
    path: Path,
    agent: Annotated[str, typer.Option(help="Whose rows.")],
    out: Out,
    kind: Annotated[Literal["json", "parquet"], typer.Option("--format", help="RLlib JSON, or Parquet.")] = "parquet",
    as_json: Json = False,
) -> None:
    """Write one agent's rows for stock RLlib and other tools."""
    from rllib_wireless import data

    with Output(as_json) as output:
        written = data.export(path, out, agent=agent, kind=kind)
        output.result({"out": str(written), "agent": agent, "format": kind}, f"{written}: rows of {agent}")


@app.command()
def train(
    out: Out,
    algorithm: Annotated[str | None, typer.Argument(metavar="ALGO", help="Name of the algorithm.")] = None,
    env: Annotated[str | None, typer.Option("--env", help="Name of the environment.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    config: Config = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
    iterations: Annotated[int | None, typer.Option(help="How many; the algorithm's own number if not given.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    wandb: Annotated[Wandb, typer.Option(help="Log with Weights & Biases.")] = "off",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train an algorithm; `train --resume --out DIR` alone goes on with the run in that folder."""
    from rllib_wireless.algorithms.training import resume_run
    from rllib_wireless.algorithms.training import train as train_

    with Output(as_json) as output:
        run_arguments: dict[str, Any] = {"iterations": iterations, "wandb": wandb, "progress": _iterations(output)}
        if resume and algorithm is None and env is None:
            row = resume_run(out, **run_arguments)
        elif algorithm is None or env is None:
            missing = "ALGO" if algorithm is None else "--env"
            raise UserError(f"{missing} is missing: give train ALGO --env ENV, or --resume alone")
        else:
            row = train_(
                algorithm,
                env,
                out=out,
                data=data,
                env_config=key_values(config, "--config"),
                settings=key_values(settings, "--set"),
                seed=seed,
                resume=resume,
                **run_arguments,
            )
        output.result({"out": str(out), "result": row}, f"{out}: {row['iteration']} iterations")


@app.command()
def evaluate(
    policy: Annotated[str, typer.Argument(help="A rule, or the folder of a trained policy or training run.")],
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


@app.command()
def reproduce(
    paper: Annotated[Literal["fedmorl", "ctde_cql", "dcc", "scam_fqi"], typer.Argument(help="Which paper.")],
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


def _summary(card: Any) -> str:
    rows = sum(agent.transitions for agent in card.agents.values())
    return f"{card.steps:,} joint steps, {rows:,} rows of {len(card.agents)} agents"
