"""What the command line reads and writes: `k=v` options, progress, and one JSON object with `--json`."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import orjson
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rllib_wireless.errors import UserError

_WIDTH = 160  # of tables where there is no terminal to measure
_LINE_EVERY_S = 10.0  # between plain lines of progress

# YAML 1.1 takes 1e-3 for text, which nobody who types it means.
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


class Output:
    """Where the result of a command goes: tables, or one JSON object on standard output.

    With `as_json`, everything else that is written to standard output, by libraries and child processes too, goes to
    standard error. Progress always goes there.

    Args:
        as_json: Whether `--json` was given.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._stdout: IO[bytes] | None = None
        self._progress: Progress | None = None
        self._console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False, soft_wrap=False)
        self._errors = Console(stderr=True)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Output":
        if self._as_json:
            self._stdout = self._stack.enter_context(_only_result_on_stdout())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def progress(self, title: str) -> Callable[[float], None]:
        """Where to report the share that is done: a bar on a terminal, a line now and then elsewhere."""
        if not self._errors.is_terminal:
            return _Lines(title, self._errors.file)
        if self._progress is None:
            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
            self._progress = Progress(*columns, TimeElapsedColumn(), console=self._errors)
            self._stack.enter_context(self._progress)
        bar, task = self._progress, self._progress.add_task(title, total=1.0)
        return lambda share: bar.update(task, completed=share)

    def note(self, line: str) -> None:
        """Say something on the way, on standard error."""
        self._errors.print(line, markup=False, highlight=False, soft_wrap=True)

    def result(self, content: Mapping[str, Any], *shown: Table | str) -> None:
        """Give the result, once: as JSON, or as what is to be shown of it."""
        self._finish_progress()
        if self._stdout is not None:
            options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
            self._stdout.write(orjson.dumps(content, default=str, option=options))
            self._stdout.flush()
            return
        for item in shown:
            self._console.print(item, markup=False) if isinstance(item, str) else self._console.print(item)

    def _finish_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def key_values(given: Sequence[str], option: str) -> dict[str, Any]:
    """What repeated `k=v` options say; values are YAML scalars or lists.

    Raises:
        UserError: At an option that is not `k=v`, or whose value is not YAML.
    """
    parsed: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not (name and equals):
            raise UserError(f"{option} {item}: it should be name=value")
        try:
            parsed[name] = _numbers(yaml.safe_load(text))
        except yaml.YAMLError:
            raise UserError(f"{option} {item}: the value should be a YAML scalar or list") from None
    return parsed


def of_rule(settings: Mapping[str, Any], rule: str, rules: Sequence[str]) -> dict[str, Any]:
    """The settings meant for one of several rules, which are given as `rule.parameter`; one rule needs no prefix.

    Raises:
        UserError: Where it is not clear which rule a setting is for.
    """
    own = {}
    for name, value in settings.items():
        meant = [r for r in rules if name.startswith(f"{r}.")]
        if not meant and len(rules) > 1:
            raise UserError(f"--set {name}: with several policies, name one: {rules[0]}.{name}=...")
        if not meant or rule in meant:
            own[name.removeprefix(f"{rule}.")] = value
    return own


class _Lines:
    """Progress as plain lines, at the start, every few seconds and at the end."""

    def __init__(self, title: str, file: IO[str]) -> None:
        self._title, self._file = title, file
        self._next = 0.0
        self._ended = False

    def __call__(self, share: float) -> None:
        now, ends = time.monotonic(), share >= 1.0
        if (now >= self._next or ends) and not self._ended:
            print(f"{self._title}: {100 * share:.0f} %", file=self._file, flush=True)
            self._next = now + _LINE_EVERY_S
            self._ended = ends


@contextlib.contextmanager
def _only_result_on_stdout() -> Iterator[IO[bytes]]:
    """Turn standard output into standard error, down to the file descriptor; yields the true one."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "wb") as true_stdout, contextlib.redirect_stdout(sys.stderr):
        os.dup2(2, 1)
        try:
            yield true_stdout
        finally:
            os.dup2(true_stdout.fileno(), 1)


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value
