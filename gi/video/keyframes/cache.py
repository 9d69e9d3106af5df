"""A cache of tensors within a budget of bytes."""
from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class TensorCache:
    """Keeps what was made last, up to `budget` bytes on the host; anything else is made again when it is needed.

    Args:
        budget: bytes. What alone is larger is never kept.
    """

    def __init__(self, budget: int):
        self.budget = budget
        self.used = 0
        self.made = 0  # how often something had to be made
        self._entries: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Tensor], device: torch.device | str = "cpu", *,
            keep: bool = True) -> Tensor:
        """The tensor of `key`, on `device`, from the cache or from `make`, and then kept if it is to be."""
        if key not in self._entries:
            self.made += 1
            value = make()
            if keep:
                self.put(key, value)
            return value.to(device)
        self._entries.move_to_end(key)
        return self._entries[key].to(device)

    def put(self, key: Hashable, value: Tensor) -> None:
        """Keeps `value` as `key`, instead of whatever was used least recently."""
        self.forget(lambda other: other == key)
        if _bytes(value) > self.budget:
            return
        self._entries[key] = value.detach().cpu()
        self.used += _bytes(value)
        while self.used > self.budget:
            _, oldest = self._entries.popitem(last=False)
            self.used -= _bytes(oldest)

    def forget(self, which: Callable[[Hashable], bool]) -> None:
        """Drops the entries for whose key `which` is true."""
        for key in [key for key in self._entries if which(key)]:
            self.used -= _bytes(self._entries.pop(key))

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries


def _bytes(value):
    return value.numel() * value.element_size()
