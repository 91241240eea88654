"""What the checkers share: failing with a remedy, legal random actions, and exact comparison."""

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.base import BoolArray, EnvStep, FinalStep, IntArray

Snapshot = dict[str, npt.NDArray[Any]]


class CheckFailed(AssertionError):
    """What is wrong, and what to do about it."""


def require(condition: bool | np.bool_, problem: str, remedy: str) -> None:
    """Raise CheckFailed unless the condition holds."""
    if not condition:
        raise CheckFailed(f"{problem}. {remedy}")


class LegalActions:
    """Random legal actions whose row b depends on (seed, b) alone.

    Args:
        seed: Seed.
        num_envs: B.
    """

    def __init__(self, seed: int, num_envs: int) -> None:
        self._generators = [np.random.default_rng([seed, b]) for b in range(num_envs)]

    def draw(self, mask: BoolArray) -> IntArray:
        """Actions [B, N] that the mask [B, N, A] allows, all with equal probability."""
        u = np.stack([g.random(mask.shape[1]) for g in self._generators])
        nth = np.floor(u * mask.sum(-1)).astype(np.int64)
        actions: IntArray = (mask.cumsum(-1) > nth[..., None]).argmax(-1)
        return actions


def snapshot(step: EnvStep | FinalStep) -> Snapshot:
    """Copies of all arrays of a step, those of `final` as `final.*`."""
    arrays: Snapshot = {}
    for f in fields(step):
        value = getattr(step, f.name)
        if isinstance(value, FinalStep):
            arrays |= {f"final.{name}": array for name, array in snapshot(value).items()}
        elif isinstance(value, dict):
            arrays |= {f"{f.name}.{name}": array.copy() for name, array in value.items()}
        elif value is not None:
            arrays[f.name] = value.copy()
    return arrays


def first_copies(arrays: Snapshot, num_envs: int) -> Snapshot:
    """The part of a snapshot that belongs to the first copies."""
    if "final.copies" not in arrays:
        return {name: array[:num_envs] for name, array in arrays.items()}
    ended = arrays["final.copies"] < num_envs
    part = {name: array[ended] if name.startswith("final.") else array[:num_envs] for name, array in arrays.items()}
    return part if ended.any() else {name: array for name, array in part.items() if not name.startswith("final.")}


def difference(a: Snapshot, b: Snapshot) -> str | None:
    """Name of the first array that is not equal bit for bit, or None."""
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            return name
        if a[name].dtype != b[name].dtype or a[name].shape != b[name].shape or a[name].tobytes() != b[name].tobytes():
            return name
    return None
