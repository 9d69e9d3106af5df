"""Every frame by itself: what flickers, and what a method that looks at other frames has to beat."""
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from gi.models.classical import opencv_inpaint
from gi.photo import Inpainter
from gi.video.identity import network_checksum
from gi.video.method import Part, VideoMethod, pieces


class PerFrame(VideoMethod):
    """Fills each frame as `Inpainter` does a picture without keyframes.

    Args:
        network: without it, `cv2.inpaint` (Telea).
        checkpoint, config, overrides, device, max_side: of `Inpainter.from_checkpoint`.
    """

    def __init__(
        self,
        *,
        network: bool = True,
        checkpoint: str | Path | None = None,
        config: str | Path | None = None,
        overrides: Sequence[str] = (),
        device: str | torch.device = "auto",
        max_side: int = 512,
    ):
        self.inpainter = Inpainter.from_checkpoint(
            checkpoint, config=config, overrides=overrides, device=device, max_side=max_side, flow="zero",
        ) if network else None

    def fill(
        self,
        frames: Iterable[np.ndarray],
        masks: Iterable[np.ndarray],
        *,
        edited: Mapping[int, np.ndarray],
        part: Part | None = None,
    ) -> Iterator[np.ndarray | None]:
        """See `VideoMethod.fill`."""
        for number, (frame, mask) in enumerate(zip(frames, masks, strict=True), start=part.start if part else 0):
            known = number in edited or not mask.any()
            yield None if known else _telea(frame, mask) if self.inpainter is None else self.inpainter(frame, mask > 0)

    def settings(self) -> dict[str, object]:
        """See `VideoMethod.settings`."""
        if self.inpainter is None:
            return {}
        return {"network": network_checksum(self.inpainter.generator), "max_side": self.inpainter.max_side}

    def parts(self, count: int, *, edited: Collection[int] = ()) -> list[Part]:
        """See `VideoMethod.parts`."""
        return pieces(count)


def _telea(frame, mask):
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    filled = opencv_inpaint(image, torch.from_numpy(mask)[None, None].float())
    return (255 * filled[0]).round().byte().permute(1, 2, 0).numpy()
