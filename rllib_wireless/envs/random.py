"""Counter-based random numbers: a pure function of (seed, copy, agent, purpose, counter), in Numba and in NumPy.

A draw does not depend on how many copies run beside it or on how often others drew, which makes a copy bit-identical for
any batch size. The bits come from chaining the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014) over the key.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile with Numba, cached on disk; typed, which `numba.njit` is not."""
    return cast(F, numba.njit(cache=True, error_model="numpy")(function))


def jit_inline(function: F) -> F:
    """Compile into the caller, for small functions that take many arrays: handing those over costs more than the work."""
    return cast(F, numba.njit(inline="always", error_model="numpy")(function))


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_TO_UNIT = 2.0**-53


@jit
def _mix(x: Any) -> Any:
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


@jit
def stream(seed: int, copy: int, agent: int, purpose: int) -> int:
    """Key of a sequence of random numbers, which one hash each then gives: for kernels that draw many in a row."""
    h = _mix(np.uint64(seed) + _GOLDEN)
    h = _mix(h ^ (np.uint64(copy) + _GOLDEN))
    return _mix(h ^ ((np.uint64(agent) << np.uint64(32)) + np.uint64(purpose) + _GOLDEN))  # type: ignore[no-any-return]


@jit
def stream_uniform(key: int, counter: int) -> float:
    """Number `counter` of a stream, in [0, 1)."""
    return np.float64(_mix(np.uint64(key) ^ (np.uint64(counter) + _GOLDEN)) >> _S11) * _TO_UNIT


@jit
def fill_uniforms(key: int, first: int, every: int, out: npt.NDArray[np.float64]) -> None:
    """Numbers `first`, `first + every`, ... of a stream: many at once take a fraction of the time, on vector units."""
    for k in range(len(out)):
        out[k] = stream_uniform(key, first + every * k)


@jit
def uniform(seed: int, copy: int, agent: int, purpose: int, counter: int) -> float:
    """A number in [0, 1), a pure function of its arguments."""
    return stream_uniform(stream(seed, copy, agent, purpose), counter)


@jit
def randint(bound: int, seed: int, copy: int, agent: int, purpose: int, counter: int) -> int:
    """An integer in {0, ..., bound - 1}; its bias is below bound * 2**-53."""
    return np.int64(uniform(seed, copy, agent, purpose, counter) * bound)  # type: ignore[return-value]


@jit
def exponential(seed: int, copy: int, agent: int, purpose: int, counter: int) -> float:
    """A standard exponential variate."""
    return -np.log1p(-uniform(seed, copy, agent, purpose, counter))  # type: ignore[no-any-return]


@jit
def _fill_uniform(out: npt.NDArray[np.float64], seed: int, purpose: int, counter: int) -> None:
    for b in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[b, i] = uniform(seed, b, i, purpose, counter)


class StepRandom:
    """Random numbers for the policies of B copies of N agents: one counter, advanced once per step.

    Args:
        seed: Seed of the run.
        num_envs: B.
        num_agents: N.

    Attributes:
        seed: The seed, for kernels that draw for themselves.
        counter: Number of the step, likewise.
    """

    # Simulators and policies may run under one seed; the offset keeps their streams apart.
    _OFFSET = 0x5EED_0000

    def __init__(self, seed: int, num_envs: int, num_agents: int) -> None:
        self.seed = seed + self._OFFSET
        self.counter = 0
        self._shape = (num_envs, num_agents)

    def uniform(self, purpose: int = 0) -> npt.NDArray[np.float64]:
        """Uniform numbers [B, N] in [0, 1); equal purpose and step give equal numbers."""
        out = np.empty(self._shape)
        _fill_uniform(out, self.seed, purpose, self.counter)
        return out

    def advance(self) -> None:
        """Go on to the next step."""
        self.counter += 1
