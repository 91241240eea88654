"""Environments of users' own: modules that register them, found by installed packages or named by the user.

Installed packages name such modules as entry points of the group `rllib_wireless.environments`. Others are named by `--import` or
by `RLLIB_WIRELESS_IMPORT`, which processes of Ray inherit. Nothing that a data set or a policy says is ever imported.
"""

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from rllib_wireless.errors import UserError

IMPORT = "RLLIB_WIRELESS_IMPORT"
GROUP = "rllib_wireless.environments"

_loaded: set[str] = set()


def import_modules(modules: Sequence[str]) -> None:
    """Import modules here, and in all processes that are started from here.

    Args:
        modules: Names of modules, or `.py` files.

    Raises:
        UserError: At one that cannot be imported.
    """
    named = [str(Path(module).absolute()) if module.endswith(".py") else module for module in modules]
    os.environ[IMPORT] = os.pathsep.join(dict.fromkeys([*_named(), *named]))
    load()


def load() -> None:
    """Import what was named since the last call, and at the first one what installed packages bring.

    Raises:
        UserError: At a module that cannot be imported.
    """
    if GROUP not in _loaded:
        _loaded.add(GROUP)
        for entry in entry_points(group=GROUP):
            try:
                entry.load()
            except Exception as error:  # a broken package should not stop what does not need it
                warnings.warn(f"environments of {entry.value} cannot be loaded: {error}", stacklevel=2)
    for module in _named():
        if module not in _loaded:
            _loaded.add(module)  # first: what it imports may ask for environments
            try:
                _import(module)
            except BaseException:
                _loaded.remove(module)
                raise


def env_vars() -> dict[str, str]:
    """What processes on other nodes need to know of this."""
    return {IMPORT: os.environ[IMPORT]} if _named() else {}


def _named() -> list[str]:
    return [module for module in os.environ.get(IMPORT, "").split(os.pathsep) if module]


def _import(module: str) -> None:
    try:
        if not module.endswith(".py"):
            importlib.import_module(module)
            return
        path = Path(module)
        if not path.is_file():
            raise UserError(f"--import {module}: there is no such file")
        if path.stem in sys.modules:
            raise UserError(f"--import {module}: there is a module {path.stem!r} already; give the file another name")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[path.stem])
        except BaseException:
            del sys.modules[path.stem]
            raise
    except (ImportError, SyntaxError) as error:
        raise UserError(f"--import {module}: it cannot be imported: {error}") from error
