"""What a plant's floor shows, compiled: local states and observations where they changed, masks, and who decides."""

from rllib_wireless.envs.production_scheduling.tables import (
    CHANGES,
    DONE,
    NOBODY,
    WHERE,
    Floor,
    Ints,
    Rules,
    View,
    decides,
    jit_tables,
)


@jit_tables
def observe(r: Rules, f: Floor, v: View, copies: Ints) -> None:
    """Write what these copies show: local states and observations where they changed, masks, and who decides about what."""
    n, num_actions = r.neighbours.shape
    num_products = f.products.shape[2]
    block = v.local.shape[1] // n
    for b in copies:
        for p in range(num_products):
            i = v.decided[b, p]
            if i >= 0:
                v.decided[b, p] = -1
                v.acting[b, i] = False
                v.stream[b, i] = 0
                for a in range(num_actions):
                    v.mask[b, i, a] = a == 0
        for change in range(f.copies[b, CHANGES]):
            i = f.changes[b, change]
            f.changed[b, i] = False
            p = f.holds[b, i]
            done = f.products[b, DONE, p] if p != NOBODY else 0
            for c in range(block):
                value = r.blocks[p, done, c]  # NOBODY is -1, the last row
                column = i * block + c
                if v.local[b, column] != value:
                    v.local[b, column] = value
                    for k in range(r.starts[column], r.starts[column + 1]):
                        v.obs[b, r.places[k]] = value
        f.copies[b, CHANGES] = 0
        for p in range(num_products):
            if decides(r, f, b, p):
                i = f.products[b, WHERE, p]
                v.decided[b, p] = i
                v.acting[b, i] = True
                v.stream[b, i] = p
                moves = False
                for a in range(1, num_actions):
                    j = r.neighbours[i, a]
                    if j >= 0 and f.holds[b, j] == NOBODY:
                        v.mask[b, i, a] = moves = True
                v.mask[b, i, 0] = not (moves and r.forced_defer)
