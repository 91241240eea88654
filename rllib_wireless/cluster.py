"""Commands on a Ray cluster: `--address`, `--runtime-env` and `--import`, which every command of the command line has.

`http(s)://...` is the address of a cluster's jobs server: the command runs there as a Ray job. Any other address is the cluster
on which a command that runs here starts its actors.
"""

import asyncio
import functools
import inspect
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from rllib_wireless.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

Address = Annotated[
    str | None, typer.Option(help="Ray cluster: http://HOST:8265 to run there as a job, or auto, HOST:PORT for actors.")
]
Modules = Annotated[
    list[str], typer.Option("--import", metavar="MODULE", help="Module or .py file that registers environments.")
]
RuntimeEnv = Annotated[Path | None, typer.Option(help="YAML file with the job's runtime environment, as Ray's.")]

# A job has one log. In front of what its command writes to standard output, this tells it from all the rest.
_OUTPUT = "\x1e"


def on_clusters(app: typer.Typer) -> None:
    """Give all commands `--address`, `--runtime-env` and `--import`."""
    for command in app.registered_commands:
        assert command.callback is not None
        command.callback = _on_cluster(command.callback)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        on_clusters(group.typer_instance)


def _on_cluster(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def command(
        *, context: typer.Context, address: str | None, runtime_env: Path | None, modules: list[str], **given: Any
    ) -> None:
        if address is not None and address.startswith(("http://", "https://")):
            environment = _read_runtime_env(runtime_env)
            _check_paths({"import": modules, **given}, environment)
            raise typer.Exit(submit(address, _without_options(context.find_root().obj), environment))
        if runtime_env is not None:
            raise UserError("--runtime-env is for a job: give --address http://HOST:8265 with it")
        if address is not None:
            os.environ["RAY_ADDRESS"] = address
        if modules:
            from rllib_wireless.envs.plugins import import_modules

            import_modules(modules)
        function(**given)

    signature = inspect.signature(function, eval_str=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter("context", kind, annotation=typer.Context),
        inspect.Parameter("address", kind, annotation=Address, default=None),
        inspect.Parameter("runtime_env", kind, annotation=RuntimeEnv, default=None),
        inspect.Parameter("modules", kind, annotation=Modules, default=[]),
    ]
    parameters = [parameter.replace(kind=kind) for parameter in signature.parameters.values()]
    command.__signature__ = signature.replace(parameters=[*parameters, *added])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*parameters, *added]}
    return command


def submit(address: str, arguments: list[str], runtime_env: Mapping[str, Any]) -> int:
    """Run a command as a Ray job, and show what it writes as if it ran here.

    Args:
        address: The jobs server.
        arguments: Of the command line.
        runtime_env: The job's runtime environment.

    Returns:
        The command's exit code.

    Raises:
        UserError: Where the cluster does not answer, or refuses the token, the environment or the job.
    """
    try:
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.ERROR)  # says when a connection is closed
        client = JobSubmissionClient(address)
        entrypoint = shlex.join(["python", "-m", "rllib_wireless.cluster", *arguments])
        with _own_wheel_unpacked(runtime_env) as environment:
            job = client.submit_job(entrypoint=entrypoint, runtime_env=environment)
    except Exception as error:  # whatever requests, aiohttp and Ray raise of a server that is none, or says no
        raise UserError(f"{address} did not take the job: {error}") from None
    print(f"job {job} at {address}", file=sys.stderr)
    try:
        asyncio.run(_follow(client, job))
    except KeyboardInterrupt:
        print(f"the job goes on; to see or end it: ray job logs --follow {job}, ray job stop {job}", file=sys.stderr)
        raise
    except Exception as error:
        raise UserError(f"{address} answers no more, so job {job} may or may not go on: {error}") from None
    info = client.get_job_info(job)
    if info.status != "SUCCEEDED" and not info.driver_exit_code:
        print(f"job {job} {str(info.status).lower()}: {info.message}", file=sys.stderr)
        return 1
    return int(info.driver_exit_code or 0)


async def _follow(client: "JobSubmissionClient", job: str) -> None:
    """Show a job's log until the job has ended; a connection that breaks is made again."""
    from aiohttp import ClientError

    log = _Log()
    while True:
        position = 0
        try:
            async for text in client.tail_job_logs(job):  # from the beginning, each time
                log.write(text[max(log.length - position, 0) :])
                position += len(text)
        except (RuntimeError, ClientError):
            pass
        if client.get_job_status(job).is_terminal():
            log.write("\n" if log.rest else "")
            return
        await asyncio.sleep(1)


class _Log:
    """A job's log, line by line to standard output and standard error."""

    def __init__(self) -> None:
        self.length, self.rest = 0, ""

    def write(self, text: str) -> None:
        self.length += len(text)
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            errors, mark, output = line.partition(_OUTPUT)
            if errors or not mark:
                print(errors, file=sys.stderr, flush=True)
            if mark:
                print(output, flush=True)


def _read_runtime_env(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold the fields of a runtime environment, such as py_modules and env_vars")
    return content


@contextmanager
def _own_wheel_unpacked(runtime_env: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The environment with this package's wheel as folders: with a wheel, Ray would install torch and all else anew."""
    with tempfile.TemporaryDirectory(prefix="rllib-wireless-") as folder:
        modules: list[str] = []
        for module in map(str, runtime_env.get("py_modules", [])):
            if Path(module).name.startswith("rllib_wireless-") and Path(module).is_file():
                zipfile.ZipFile(module).extractall(folder)
                modules += map(str, Path(folder).iterdir())
            else:
                modules.append(module)
        yield {**runtime_env, "py_modules": modules} if modules else dict(runtime_env)


def _check_paths(given: Mapping[str, Any], runtime_env: Mapping[str, Any]) -> None:
    """Refuse relative paths, which would mean another place on the cluster, but for files that travel along.

    Raises:
        UserError: Naming the first one.
    """
    from rllib_wireless.storage import is_remote

    sent = runtime_env.get("working_dir")
    for name, value in given.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            whole = str(item)
            text = whole if is_remote(whole) else whole.partition("=")[2] or whole  # field=file
            if item is None or is_remote(text) or Path(text).is_absolute():
                continue
            exists = isinstance(item, str) and text not in ("", ".") and Path(text).exists()
            travels = sent is not None and not is_remote(sent) and (Path(sent) / text).exists()
            if (isinstance(item, Path) or exists) and not travels:
                raise UserError(
                    f"{name.replace('_', '-')} {item}: a relative path means another place on the cluster; give an absolute "
                    "one on storage that its nodes share, or s3://..., or send files along as working_dir of --runtime-env"
                )


def _without_options(arguments: list[str]) -> list[str]:
    """The arguments but for those that say where to run."""
    kept, rest = [], iter(arguments)
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if name not in ("--address", "--runtime-env"):
            kept.append(argument)
        elif not equals:
            next(rest, None)
    return kept


def _run_in_job(arguments: list[str]) -> int:
    """Run a command and mark its standard output."""
    process = subprocess.Popen([sys.executable, "-m", "rllib_wireless", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        print(_OUTPUT + line.rstrip("\n"), flush=True)
    return process.wait()


if __name__ == "__main__":
    sys.exit(_run_in_job(sys.argv[1:]))
