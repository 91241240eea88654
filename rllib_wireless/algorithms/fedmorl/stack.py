"""K clients in one process: their rows side by side, and minibatches that each client draws for itself."""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rllib_wireless.algorithms.fedmorl.layout import Rows
from rllib_wireless.algorithms.fedmorl.rollout import Imagined
from rllib_wireless.policies import StackedMLP

R = TypeVar("R", Rows, Imagined)


class Stack(Generic[R]):
    """Rows of K clients, the shorter ones padded.

    Args:
        clients: Rows of each client, leaves [T_k, ...].

    Attributes:
        rows: Leaves [K, T, ...].
        sizes: Rows of each client, [K].
    """

    def __init__(self, clients: Sequence[R]) -> None:
        columns = [pad_sequence(list(column), batch_first=True) for column in zip(*clients, strict=True)]
        self.rows: R = type(clients[0])(*columns)
        self.sizes = torch.tensor([len(rows[0]) for rows in clients])

    def of(self, client: int) -> R:
        """One client's rows."""
        return type(self.rows)(*(column[client, : self.sizes[client]] for column in self.rows))

    def minibatches(self, generators: Sequence[torch.Generator], steps: int, size: int) -> Iterator[Tensor]:
        """Indices of random rows, `steps` times [K, size]; client k's come from generator k."""
        drawn = [torch.randint(int(n), (steps, size), generator=g) for n, g in zip(self.sizes, generators, strict=True)]
        return iter(torch.stack(drawn, dim=1))


def take(values: Tensor, index: Tensor) -> Tensor:
    """Rows at `index` [K, B] of each client's [K, T, ...]."""
    return values[torch.arange(len(index))[:, None], index]


def stacked(network: StackedMLP, x: Tensor) -> Tensor:
    """Apply K clients' networks to inputs [K, B, D], giving [K, B, A].

    Results and gradients are laid out alike whatever K is: sums over rows and vectorised functions then run alike, and a
    client's result is the same to the last bit whoever shares the process.
    """
    out: Tensor = network(x.transpose(0, 1)).transpose(0, 1)
    if out.requires_grad:
        out.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
    return out
