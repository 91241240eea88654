"""What a user can get wrong, as exceptions whose one line says what was given and what is allowed."""

from pathlib import Path


class UserError(Exception):
    """A user's mistake: the command line prints its one line and exits with code 2, without a traceback."""


class ConfigError(UserError):
    """A configuration field that is unknown, of the wrong type or out of range.

    Args:
        owner: What the field configures, for example `channel_access` or `FedMORL`.
        field: Name of the field.
        value: The value that was given.
        allowed: What would be right, in words.
    """

    def __init__(self, owner: str, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{owner}: {field} = {value!r}, but {allowed}")
        self.owner, self.field, self.value, self.allowed = owner, field, value, allowed

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[str, str, object, str]]:
        # Exceptions pickle by their message alone, which would break this one on its way out of a Ray actor.
        return type(self), (self.owner, self.field, self.value, self.allowed)


class ProcessLost(UserError):
    """A process that a run cannot do without is gone, with its node perhaps; from its last checkpoint the run can go on."""


class DataError(UserError):
    """A data set that cannot be used as it is.

    Args:
        problem: What is wrong, in words.
        path: The file or folder.
        line: Line in the file, counted from 1.
        column: Name of the column, with the agent in front where there is one.
    """

    def __init__(
        self, problem: str, path: Path | str | None = None, line: int | None = None, column: str | None = None
    ) -> None:
        where = [str(path)] if path is not None else []
        where += [f"line {line}"] if line is not None else []
        where += [f"column {column}"] if column is not None else []
        super().__init__(": ".join([", ".join(where), problem]) if where else problem)
        self.problem, self.path, self.line, self.column = problem, path, line, column

    def __reduce__(self) -> tuple[type["DataError"], tuple[str, Path | str | None, int | None, str | None]]:
        return type(self), (self.problem, self.path, self.line, self.column)
