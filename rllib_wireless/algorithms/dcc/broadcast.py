"""One number of every device, broadcast to all: what each has received, when messages are late or lost."""

from typing import Any

import numpy as np
import numpy.typing as npt

from rllib_wireless.envs.task_offloading.device import Floats, Ints


class Broadcast:
    """The newest number of each device that every other device knows.

    Args:
        initial: What all know at first, [N].
        delay: Most iterations that a message takes, drawn for each receiver.
        loss: Probability that a receiver misses a message.
        key: Seed of the run and number of this broadcast, which key the random draws.
    """

    def __init__(self, initial: Floats, delay: int, loss: float, key: tuple[int, int]) -> None:
        self._delay, self._loss, self._key = delay, loss, key
        self.own = initial.copy()
        # Row: receiver. Without delay and loss all know the same, and one row is enough.
        rows = len(initial) if delay or loss else 1
        self._known = np.tile(initial, (rows, 1))
        self._sent_at = np.full(self._known.shape, -1)
        self._under_way: list[tuple[int, int, Floats, npt.NDArray[np.bool_]]] = []

    def send(self, values: Floats, senders: Ints, iteration: int) -> None:
        """Some devices broadcast; what needs no time is known at once.

        Args:
            values: Their numbers, [n].
            senders: Their indices, [n].
            iteration: Now.
        """
        self.own[senders] = values
        sending = np.zeros(len(self.own), np.bool_)
        sending[senders] = True
        draws = np.random.default_rng([*self._key, iteration]).random((2, *self._known.shape))
        lost = draws[0] < self._loss
        takes = (draws[1] * (self._delay + 1)).astype(np.int64)
        for delay in range(self._delay + 1):
            reached = sending & ~lost & (takes == delay)
            self._under_way.append((iteration + delay, iteration, self.own.copy(), reached))
        self.deliver(iteration)

    def deliver(self, iteration: int) -> None:
        """Messages that arrive now or have arrived are known; an older one never replaces a newer one."""
        for arrives, sent, values, reached in self._under_way:
            if arrives <= iteration:
                newer = reached & (sent >= self._sent_at)
                self._known = np.where(newer, values, self._known)
                self._sent_at = np.where(newer, sent, self._sent_at)
        self._under_way = [message for message in self._under_way if message[0] > iteration]

    def sum_of_others(self) -> Floats:
        """The sum of all other devices' numbers as each device knows them, [N]."""
        diagonal = np.diagonal(self._known) if len(self._known) > 1 else self._known[0]
        others: Floats = self._known.sum(1) - diagonal
        return others

    def get_state(self) -> dict[str, Any]:
        """All that changes."""
        return {"own": self.own, "known": self._known, "sent_at": self._sent_at, "under_way": list(self._under_way)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.own, self._known, self._sent_at = state["own"].copy(), state["known"].copy(), state["sent_at"].copy()
        self._under_way = list(state["under_way"])
