"""The state of plants' floors as a few tables, for compiled code, and how code is compiled that takes them."""

from typing import NamedTuple, cast

import numba
import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.random import F, jit_inline

WAITING, FINISHED = -1, -2
"""Where a product is before its supply and after its removal."""

COPY_STATE = (
    "time",  # ticks since the episode began
    "start",  # when the running step began
    "turn",  # serial clock: the unit whose turn it is
    "made",  # decisions of all units
    "steps",  # counts on over episodes, as the counter of the random numbers of conflicts
    "supplies",  # likewise, of those of supplies
    "changes",  # number of units whose local state is other than what was shown last
)
PRODUCT_STATE = (
    "where",  # the unit that holds it, WAITING or FINISHED
    "until",  # when it is free
    "done",  # operations that have begun, supply among them
)
COPY_COUNTS = (
    "ticks",
    "finished",  # products
    "finish_ticks",  # sum of the times when they were finished
    "ended",  # 1 when the episode has ended; what follows is 0 before
    "livelocks",  # 1 if it was truncated
    "end_ticks",  # its length
    "end_products",  # its number of products
    "end_finished",  # those of them that were finished
    "end_decisions",
)
UNIT_COUNTS = (
    "decisions",
    "defers",  # chosen, or forced
    "conflicts",  # moves that another unit's move to the same place prevented
    "busy_ticks",  # spent in operations, counted when they begin
    "illegal_actions",
)
TIME, START, TURN, MADE, STEPS, SUPPLIES, CHANGES = range(len(COPY_STATE))
WHERE, UNTIL, DONE = range(len(PRODUCT_STATE))
TICKS, NUM_FINISHED, FINISH_TICKS, ENDED, LIVELOCKS, END_TICKS, END_PRODUCTS, END_FINISHED, END_DECISIONS = range(9)
DECISIONS, DEFERS, CONFLICTS, BUSY_TICKS, ILLEGAL = range(len(UNIT_COUNTS))

NOBODY = -1  # holds no product

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


class Rules(NamedTuple):
    """Plant and configuration, as the kernels read them; ticks throughout."""

    neighbours: Ints  # [N, A] unit that an action moves to, -1 for none
    ticks: Ints  # [N, O] of each operation, 0 where a unit cannot do it
    sequences: Ints  # [P, longest] operations of each product
    lengths: Ints  # [P]
    suppliers: Ints  # units that supply
    move_ticks: int
    defer_ticks: int
    serial: bool
    forced_defer: bool  # a defer is legal only where no move is
    until_episode: bool  # rewards run until the episode's end
    bonus: float
    penalty: float
    blocks: (
        Singles  # [P + 1, longest + 1, L] local state of a unit, by product and operations begun; the last for NOBODY
    )
    starts: Ints  # [N * L + 1] of the simulator's _places()
    places: Ints
    seed: int


class Floor(NamedTuple):
    """B floors of N units and P products, and what was counted of them."""

    copies: Ints  # [B, COPY_STATE]
    products: Ints  # [B, PRODUCT_STATE, P]
    holds: Ints  # [B, N] the product in each unit or on its way there, or NOBODY
    target: Ints  # [B, P] within a step: the unit that a product is to move to, -1 for none
    changed: Bools  # [B, N] whether a unit's local state is other than what was shown last
    changes: Ints  # [B, N] those units
    open: Bools  # [B, N, P] whether a unit waits for a product to come back
    counts: Floats  # [B, COPY_COUNTS]
    unit_counts: Floats  # [B, UNIT_COUNTS, N]
    stream_reward: Singles  # [B, N, P] of the step
    stream_done: Bools  # [B, N, P]
    reward: Singles  # [B, N] sum over the products
    duration: Singles  # [B]


class View(NamedTuple):
    """What B floors show."""

    local: Singles  # [B, N * L]
    obs: Singles  # [B, N * D]; what does not come from local states stays as it is
    mask: Bools  # [B, N, A]
    acting: Bools  # [B, N]
    stream: Ints  # [B, N] product about which a unit decides
    decided: Ints  # [B, P] unit that decides about a product, or -1: the rows of the three above to be written anew


def allocate(num_envs: int, units: int, products: int) -> Floor:
    """Floors without an episode; `begin` comes next."""
    b, n, p = num_envs, units, products
    return Floor(
        copies=np.zeros((b, len(COPY_STATE)), np.int64),
        products=np.zeros((b, len(PRODUCT_STATE), p), np.int64),
        holds=np.full((b, n), NOBODY, np.int64),
        target=np.full((b, p), -1, np.int64),
        changed=np.zeros((b, n), np.bool_),
        changes=np.zeros((b, n), np.int64),
        open=np.zeros((b, n, p), np.bool_),
        counts=np.zeros((b, len(COPY_COUNTS))),
        unit_counts=np.zeros((b, len(UNIT_COUNTS), n)),
        stream_reward=np.zeros((b, n, p), np.float32),
        stream_done=np.zeros((b, n, p), np.bool_),
        reward=np.zeros((b, n), np.float32),
        duration=np.zeros(b, np.float32),
    )


def jit_tables(function: F) -> F:
    """Compile without counting references to arrays: each table handed to an inlined function would cost atomic updates.

    With it, a step of 1,024 plants takes a sixth of the time. Such code cannot allocate.
    """
    return cast(F, numba.njit(cache=True, error_model="numpy", _nrt=False)(function))  # type: ignore[call-overload]


@jit_inline
def decides(r: Rules, f: Floor, b: int, p: int) -> bool:
    """Whether the unit that holds product p decides about it now."""
    free = f.products[b, WHERE, p] >= 0 and f.products[b, UNTIL, p] <= f.copies[b, TIME]
    return free and (not r.serial or f.products[b, WHERE, p] == f.copies[b, TURN])
