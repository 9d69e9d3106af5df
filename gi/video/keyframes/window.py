"""The part of a video that is in memory: frames are read from iterators, and dropped when no chunk needs them any more.
"""
from collections.abc import Callable, Container, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from gi.compositing import tensor_of_pixels
from gi.media.arguments import matched
from gi.media.crop import resize_known


class Window:
    """Frames by number, each read once and in order, at the size the networks work at.

    Args:
        frames, masks: uint8 (H, W, 3), RGB; as many uint8 or bool (H, W), anything but 0 is missing.
        size: (height, width) to work at as a function of that of the frames.
        edited: frames edited by hand, by their number, uint8 (H, W, 3): all of them is known.
        first: number of the first frame that the iterators give.
        count: of the video's frames, where it is known before its end.
        device: where `frame` puts its tensors.
    """

    def __init__(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], *,
                 size: Callable[[tuple[int, int]], tuple[int, int]] = lambda size: size,
                 edited: Mapping[int, np.ndarray] | None = None, first: int = 0, count: int | None = None,
                 device: torch.device | str = "cpu"):
        self._size, self.edited, self.device = size, dict(edited or {}), device
        self._pairs = matched(frames, masks, self.edited, first=first)
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._unedited: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # edited frames as they were
        self.next = first  # number of the frame that is read next
        self.count = count  # if None, known once the end is reached
        self.full_size: tuple[int, int] | None = None

    def read_to(self, stop: int) -> None:
        """Reads on until the frames before `stop` are there, or all. Raises InputError for what does not fit."""
        while self.next < (stop if self.count is None else min(stop, self.count)):
            if (pair := next(self._pairs, None)) is None:
                self.count = self.next
                return
            number, self.next, (frame, mask) = self.next, self.next + 1, pair
            if self.full_size is None:
                self.full_size = frame.shape[:2]
                for edited, image in self.edited.items():  # they guide from the first target on
                    self._kept[edited] = self._small(image, np.zeros(image.shape[:2], np.uint8))
            mask = (mask != 0).astype(np.uint8)
            if number in self.edited:
                self._unedited[number] = self._small(frame, mask)
                frame, mask = self.edited[number], np.zeros_like(mask)
            self._kept[number] = self._small(frame, mask)

    def drop(self, before: int, *, keep: Container[int] = ()) -> None:
        """Forgets the frames before that number, except the edited ones and those of `keep`."""
        self._kept = {number: kept for number, kept in self._kept.items()
                      if number >= before or number in self.edited or number in keep}
        self._unedited = {number: kept for number, kept in self._unedited.items() if number >= before}

    def __contains__(self, number: int) -> bool:
        """Whether that frame is in memory."""
        return number in self._kept

    @property
    def known_count(self) -> int:
        """Frames of the video, as far as they are known."""
        return self.next if self.count is None else self.count

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what `frame` gives. A frame must have been read."""
        assert self.full_size is not None
        return self._size(self.full_size)

    def frame(self, number: int) -> tuple[Tensor, Tensor]:
        """Its image (1, 3, h, w) in [0, 1], 0 in the hole, and mask (1, 1, h, w), 1 = missing."""
        return self._tensors(*self._kept[number])

    def unedited(self, number: int) -> tuple[Tensor, Tensor]:
        """`frame`, for edited ones as it was before, with its hole. Those must have been read."""
        return self._tensors(*self._unedited.get(number) or self._kept[number])

    def _tensors(self, image, hole):
        mask = torch.from_numpy(np.unpackbits(hole, axis=1, count=image.shape[1])).to(self.device)
        return tensor_of_pixels(image, self.device)[None], mask[None, None].float()

    def _small(self, frame, mask):
        image, hole = resize_known(frame, mask, self.size)
        return image, np.packbits(hole, axis=1)  # bytes would be a quarter of all memory of a window
