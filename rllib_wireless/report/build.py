"""From a folder to its page, by what the folder holds."""

import importlib
from pathlib import Path

from rllib_wireless.algorithms.run import write_atomically
from rllib_wireless.errors import UserError
from rllib_wireless.report.page import Page

_KINDS = {
    "run.yaml": ("a training run", "training"),
    "settings.yaml": ("a sweep", "sweep"),
    "results.json": ("a paper's results", "paper"),
    "card.yaml": ("a data set", "data_set"),
}
"""What a folder is, by the first of these files that it holds (a sweep holds `results.json`, too), and the module that shows it.

The modules are imported when they are asked for: a sweep's brings Ray, Optuna and torch along, which the others do without.
"""


def report(folder: Path | str, out: Path | str | None = None) -> Path:
    """Write one self-contained HTML page about a folder.

    Args:
        folder: A training run, a sweep, a paper's results or a data set.
        out: The page; `report.html` in the folder if not given.

    Returns:
        The page's path.

    Raises:
        UserError: Where the folder is none of these, or its files are not what this version writes.
    """
    path = Path(folder) / "report.html" if out is None else Path(out)
    if path.is_dir():
        raise UserError(f"--out {path}: that is a folder; give the name of a file")
    content = build(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.encode())
    return path


def build(folder: Path | str) -> str:
    """The page about a folder, as `report` writes it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    for name, (kind, module) in _KINDS.items():
        if (folder / name).is_file():
            shown = importlib.import_module(f"rllib_wireless.report.{module}")
            try:
                page: Page = shown.page(folder)
                return page.render()
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                words = f"{folder} looks like {kind}, but its files are not what this version writes"
                raise UserError(f"{words}: {type(error).__name__}: {error}") from error
    wanted = ", ".join(f"{kind} ({name})" for name, (kind, _) in _KINDS.items())
    raise UserError(f"{folder} holds nothing to report on; it may be {wanted}")
