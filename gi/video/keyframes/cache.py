"""A cache of tensors within a budget of bytes."""
from collections.abc import Callable, Hashable

import torch
from cachetools import LRUCache
from torch import Tensor


class TensorCache:
    """Keeps what was used last, up to `budget` bytes on the host; anything else is made again when it is needed.

    Args:
        budget: bytes. What alone is larger is never kept.
    """

    def __init__(self, budget: int):
        self.made = 0  # how often something had to be made
        self._entries = LRUCache(budget, getsizeof=lambda value: value.nbytes)

    @property
    def used(self) -> int:
        """Bytes kept at the moment."""
        return self._entries.currsize

    def get(self, key: Hashable, make: Callable[[], Tensor], device: torch.device | str = "cpu", *,
            keep: bool = True) -> Tensor:
        """The tensor of `key`, on `device`, from the cache or from `make`, and then kept if it is to be."""
        if key in self._entries:
            return self._entries[key].to(device)
        self.made += 1
        value = make()
        if keep and value.nbytes <= self._entries.maxsize:
            self._entries[key] = value.detach().cpu()
        return value.to(device)

    def forget(self, which: Callable[[Hashable], bool]) -> None:
        """Drops the entries for whose key `which` is true."""
        for key in filter(which, list(self._entries)):
            del self._entries[key]

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries
