"""Fills every frame by itself: a baseline, which flickers, for methods that use other frames."""
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from gi.compositing import composite, masked, pixels_of_tensor, tensor_of_pixels
from gi.config.device import find_device
from gi.errors import InputError, expect_finite
from gi.media.crop import resize_known, working_size
from gi.models.classical import opencv_inpaint
from gi.models.fold import prepare_for_inference
from gi.video.identity import network_checksum
from gi.video.method import Part, VideoMethod, pieces
from gi.weights.pretrained import load_trained


class PerFrame(VideoMethod):
    """Fills each frame by the network without keyframes.

    A frame that is missing as a whole is filled by the network all the same; without a network it is refused.

    Args:
        network: without it, `cv2.inpaint` (Telea).
        checkpoint, config, overrides, device: see `Inpainter.from_checkpoint`.
        max_side: frames with a longer side are reduced for all of this, and the holes' content enlarged again.
    """

    def __init__(self, *, network: bool = True, checkpoint: str | Path | None = None, config: str | Path | None = None,
                 overrides: Sequence[str] = (), device: str | torch.device = "auto", max_side: int | None = None):
        self.device, self.max_side, self.generator = find_device(device), max_side, None
        if network:
            trained = load_trained(checkpoint, config=config, flow="zero", overrides=overrides)
            self.generator = prepare_for_inference(trained.generator).to(self.device)

    def fill(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], *, edited: Mapping[int, np.ndarray],
             part: Part | None = None) -> Iterator[np.ndarray | None]:
        for number, (frame, mask) in enumerate(zip(frames, masks, strict=True), part.start if part else 0):
            if self.generator is None and mask.all() and number not in edited:
                raise InputError(f"frame {number}: everything is missing, and this method looks at no other frame")
            yield self._fill(frame, mask != 0) if mask.any() else None

    def parts(self, count: int, *, edited: Collection[int] = ()) -> list[Part]:
        return pieces(count)

    def settings(self) -> dict[str, object]:
        return {"network": network_checksum(self.generator), "max_side": self.max_side}

    @torch.inference_mode()
    def _fill(self, frame, mask):
        size = working_size(frame.shape[:2], max_side=self.max_side, resize=None)
        frame, mask = resize_known(frame, mask, size)
        image = tensor_of_pixels(frame, self.device)[None]
        hole = torch.from_numpy(mask).to(self.device)[None, None].float()
        if self.generator is None:
            filled = opencv_inpaint(image, hole)
        else:
            sources, flows, errors = (image.new_zeros(1, 0, channels, *size) for channels in (4, 2, 1))
            filled = self.generator(masked(image, hole), sources, flows, errors).float()
            filled = composite(expect_finite(filled), image, hole)
        return pixels_of_tensor(filled[0])
