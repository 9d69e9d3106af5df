"""The part of a video that is in memory: frames come from iterators, and go when no chunk needs them any more."""
from collections.abc import Callable, Container, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from gi.errors import InputError
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
        self._frames, self._masks = iter(frames), iter(masks)
        self._size, self.edited, self.device = size, dict(edited or {}), device
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._unedited: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # edited frames as they were
        self.next = first  # number of the frame that is read next
        self.count = count  # otherwise known when the end was reached
        self.full_size: tuple[int, int] | None = None

    def read_to(self, stop: int) -> None:
        """Reads on until the frames before `stop` are there, or all. Raises InputError for what does not fit."""
        while self.next < (stop if self.count is None else min(stop, self.count)):
            frame, mask = next(self._frames, None), next(self._masks, None)
            if frame is None or mask is None:
                self._end(frame, mask)
                return
            number, self.next = self.next, self.next + 1
            self._check(number, frame, mask)
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
    def seen(self) -> int:
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
        arrays = image, np.unpackbits(hole, axis=1, count=image.shape[1])
        # A picture as Pillow gives it is not writable, which torch warns of.
        image, mask = (torch.from_numpy(np.require(array, requirements="W")).to(self.device) for array in arrays)
        return image.permute(2, 0, 1)[None].float() / 255, mask[None, None].float()

    def _small(self, frame, mask):
        image, hole = resize_known(frame, mask, self.size)
        return image, np.packbits(hole, axis=1)  # bytes would be a quarter of all memory of a window

    def _end(self, frame, mask):
        if frame is not None or mask is not None:
            short, long = ("masks", "frames") if mask is None else ("frames", "masks")
            raise InputError(f"{self.next} {short}, but more {long}: expected as many masks as frames")
        if self.full_size is None:
            raise InputError("the video has no frames")
        self.count = self.next
        if outside := [number for number in self.edited if number not in range(self.count)]:
            raise InputError(f"edited frame {outside[0]}: the video has frames 0 to {self.count - 1}")

    def _check(self, number, frame, mask):
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise InputError(f"frame {number}: expected uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
        if self.full_size is None:
            self.full_size = frame.shape[:2]
            for edited, image in self.edited.items():
                if image.shape != frame.shape:
                    raise InputError(f"edited frame {edited}: {_size(image)}, but the video is {_size(frame)}")
                # It guides from the first target on.
                self._kept[edited] = self._small(image, np.zeros(image.shape[:2], np.uint8))
        if frame.shape[:2] != self.full_size:
            raise InputError(f"frame {number}: {_size(frame)}, but the first one is "
                             f"{self.full_size[1]}x{self.full_size[0]}")
        if mask.shape != frame.shape[:2]:
            raise InputError(f"mask {number}: {_size(mask)}, but its frame is {_size(frame)}")


def _size(array):
    return f"{array.shape[1]}x{array.shape[0]}"
