"""Finding the Python of a peer that needs an environment of its own."""

import os
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from rllib_wireless.errors import UserError


class PeerPython(NamedTuple):
    """An environment that has a peer."""

    python: str
    version: str  # of the peer, and of what it pins


def find_python(variable: str, packages: Sequence[str], also: Sequence[str] = ("torch",)) -> PeerPython | None:
    """The Python that an environment variable names; None where it is not set.

    Args:
        variable: Its name.
        packages: What that Python must import; these are named with their versions.
        also: What else it must import.

    Raises:
        UserError: Where it cannot.
    """
    python = os.environ.get(variable)
    if not python:
        return None
    needs = ", ".join((*also, *packages))
    code = (
        f"import {needs}; from importlib.metadata import version;"
        f" print(', '.join(name + ' ' + version(name) for name in {list(packages)}))"
    )
    try:
        done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{variable}={python} is no Python that imports {needs}: {error}") from error
    return PeerPython(python, done.stdout.strip().splitlines()[-1])
