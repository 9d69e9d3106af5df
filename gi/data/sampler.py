"""Which samples make up which batch, independent of the number of processes."""
import functools
from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Sampler

from gi.errors import InputError


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) for process `rank` of `world_size`, in an order that (seed, epoch) decides.

    The order of an epoch is cut into joint batches of `batch_size * world_size` samples, of which each process takes
    its consecutive share: with a constant product the training stays the same. Of the `length` samples, those that do
    not fill the last joint batch are left out; they differ from epoch to epoch.

    `position` is asked whenever an iteration starts: the epoch, and how many of its batches are done already and are
    skipped. None: the start of epoch 0. Raises InputError if the dataset does not fill a single joint batch.
    """

    def __init__(self, *, length: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1,
                 position: Callable[[], tuple[int, int]] | None = None):
        if length < batch_size * world_size:
            raise InputError(f"training set: {length} samples do not fill a batch of {batch_size} on each of "
                             f"{world_size} processes")
        self.length, self.batch_size, self.seed, self.rank, self.world_size = length, batch_size, seed, rank, world_size
        self.position = position

    def __len__(self) -> int:
        """Batches of a full epoch, also when the first ones are passed over: Lightning adds those to its count."""
        return self.length // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # Not a generator itself: the position is asked now, not when the first batch is taken.
        epoch, done = (0, 0) if self.position is None else self.position()
        order = np.random.default_rng((self.seed, epoch)).permutation(self.length)
        order = order[: len(self) * self.batch_size * self.world_size]
        own = order.reshape(len(self), self.world_size, self.batch_size)[:, self.rank]
        return ([(epoch, int(index)) for index in batch] for batch in own[done:])


def sampled_entry(epoch: int, index: int, *, count: int, length: int | None, seed: int) -> tuple[int, int]:
    """Which of `count` pictures or videos sample `index` of an epoch shows, and how often the epoch has shown that one
    before.

    length: samples an epoch, taken from reshuffled passes over all that continue from epoch to epoch. None: sample i
    shows number i.
    """
    if length is None:
        return index, 0
    passes, position = divmod(epoch * length + index, count)
    return int(_order(seed, passes, count)[position]), passes - epoch * length // count


@functools.lru_cache(maxsize=8)
def _order(seed: int, number: int, count: int) -> np.ndarray:
    """The order of all pictures or videos in pass `number`."""
    return np.random.default_rng((seed, number)).permutation(count)
