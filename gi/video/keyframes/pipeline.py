"""From frames with holes to frames without: key targets by the generator, everything else along optical flow.

    from gi.video import VideoInpainter
    inpainter = VideoInpainter.from_checkpoint()
    for frame in inpainter(frames, masks):  # iterators of arrays in, an iterator of arrays out
        ...

Memory does not depend on the length of a video: what is kept are the frames, flows and keyframe features within reach
of the chunk at hand. `gi.video.job` does the same for files, and resumes.
"""
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from gi.config import instantiate
from gi.config.device import find_device
from gi.errors import InputError
from gi.flow.guidance import FlowGuidance
from gi.media.crop import MIN_SIDE, limited, resize
from gi.models.fold import prepare_for_inference
from gi.video.keyframes import plan
from gi.video.keyframes.chunk import ChunkFiller
from gi.video.keyframes.window import Window
from gi.weights.pretrained import FLOWS, load_parts

VERSION = 2  # of what comes out for the same settings; finished chunks of another one are not used


class VideoInpainter:
    """Fills the holes of a video.

    Key targets, every `every` frames, are filled by the generator with other frames as keyframes (paper, supplement
    A). A frame between two of them takes, for every pixel of its hole, what optical flow leads to in either direction:
    with `prealign` a pixel that another frame of the chunk shows, at the latest one of the filled key targets. What no
    flow reaches is filled by the generator with the two key targets as keyframes.

    Known pixels of the result are the input's, bit for bit, and nothing in the holes has any influence.

    Args:
        generator: any family, called as generator(target, sources, flows, flow_errors). None: flow alone, and
            `cv2.inpaint` for what it does not reach.
        guidance: a FlowGuidance with `mask_images`; its estimator is used between neighbours as well.
        device: "auto" takes a CUDA GPU, else Apple's, else the CPU; or what torch.device takes.
        every: frames from one key target to the next.
        guides: 6 or 14, the paper's offsets of the keyframes, or any list of offsets, or 0 for none.
        prealign: first copy into a key target what flow leads to in other frames within reach, in both directions, so
            that the generator only fills the rest; and let the frames between take pixels from each other. Without
            it, holes show what the generator made of the key targets, nothing else.
        max_side: frames with a longer side are reduced for all of this, and the holes' content enlarged again.
        resize: (width, height) to work at, instead of `max_side`.
        tolerance: in pixels at 432 x 240, more in larger frames; how much the forward-backward errors along a way may
            add up to.
        flow_budget: bytes of flow kept on the host.
    """

    def __init__(
        self,
        *,
        generator: nn.Module | None,
        guidance: FlowGuidance,
        device: str | torch.device = "auto",
        every: int = plan.EVERY,
        guides: int | Sequence[int] = 14,
        prealign: bool = True,
        max_side: int | None = None,
        resize: tuple[int, int] | None = None,
        tolerance: float = 10.0,
        flow_budget: int = 1 << 29,
    ):
        if max_side is not None and max_side < MIN_SIDE:
            raise InputError(f"max_side: expected at least {MIN_SIDE}, got {max_side}")
        if resize is not None and (len(resize) != 2 or min(resize) < MIN_SIDE):
            raise InputError(f"resize: expected (width, height) of at least {MIN_SIDE}, got {resize}")
        if every < 1:
            raise InputError(f"every: expected at least 1, got {every}")
        if not getattr(guidance, "mask_images", True):
            raise InputError("guidance: sees what is in the holes; expected a FlowGuidance with mask_images: true")
        self.device = find_device(device)
        self._identity = _checksum(generator), _checksum(guidance)
        self.generator = None if generator is None else prepare_for_inference(generator).to(self.device)
        self.guidance = guidance.to(self.device)
        self.every, self.offsets, self.prealign = every, plan.guide_offsets(guides), prealign
        self.max_side, self.resize, self.tolerance, self.flow_budget = max_side, resize, tolerance, flow_budget
        self.reach = max(map(abs, self.offsets), default=0) or self.every
        self.longest = self.every + (self.every + 1) // 2  # that a chunk can be, see `plan.anchors`

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path | None = None,
        *,
        config: str | Path | None = None,
        flow: str = "config",
        device: str | torch.device = "auto",
        overrides: Sequence[str] = (),
        **options,
    ) -> "VideoInpainter":
        """With the generator of a checkpoint, see `Inpainter.from_checkpoint`; `options` as of the constructor."""
        find_device(device)  # before anything slow
        generator, guidance = load_parts(checkpoint, config=config, flow=flow, overrides=overrides)
        return cls(generator=generator, guidance=guidance, device=device, **options)

    @classmethod
    def from_flow(cls, flow: str = "dis", **options) -> "VideoInpainter":
        """Without a network, along the optical flow of one of `gi.weights.pretrained.FLOWS`."""
        if FLOWS.get(flow) is None:
            raise InputError(f"flow: expected one of {', '.join(name for name in FLOWS if FLOWS[name])}, got {flow!r}")
        guidance = FlowGuidance(estimator=instantiate({"target": FLOWS[flow]}, "flow"), mask_images=True)
        return cls(generator=None, guidance=guidance, **options)

    def __call__(
        self,
        frames: Iterable[np.ndarray],
        masks: Iterable[np.ndarray],
        *,
        edited: Mapping[int, np.ndarray] | None = None,
    ) -> Iterator[np.ndarray]:
        """Yields the frames with their holes filled, uint8 (H, W, 3), a chunk after the other.

        frames: uint8 (H, W, 3), RGB, any iterable, read once. masks: (H, W), as many, anything but 0 is missing.
        edited: frames, by their number from 0, that were edited by hand: they are handed on as they are, and what they
        show in their holes guides the others. Raises InputError naming the frame if something does not fit.
        """
        window = self.window(frames, masks, edited=edited)
        filler = ChunkFiller(self, window)
        waiting: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        chunk = None
        while chunk is None or not chunk.final:
            # First as far as the end of the chunk shows, then as far as its end's guides lie.
            start = 0 if chunk is None else chunk.last
            waiting.update(read(window, start + self.longest + 1))
            chunk = self._chunk(start, window)
            waiting.update(read(window, chunk.last + self.reach + 1))
            fills = filler(chunk)
            for number in chunk.frames:
                yield insert(fills.get(number), *waiting.pop(number))

    def _chunk(self, start, window):
        known = window.next if window.count is None else window.count
        anchors = plan.anchors(known, every=self.every, edited=[e for e in window.edited if e < known])
        following = [anchor for anchor in anchors if anchor > start]
        last = following[0] if following else start
        return plan.Chunk(start, last, last == (window.count or 0) - 1)

    def window(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], **options) -> Window:
        """A window on a video at the size this works at; options as of `Window`."""
        return Window(frames, masks, size=self.working_size, device=self.device, **options)

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that frames of `size` are worked on."""
        if self.resize is not None:
            return self.resize[1], self.resize[0]
        return size if self.max_side is None else limited(size, self.max_side)

    def settings(self) -> dict[str, object]:
        """All that results depend on besides the video, fit for JSON; weights by their checksum."""
        return {
            "networks": self._identity,
            "every": self.every, "offsets": self.offsets, "prealign": self.prealign, "max_side": self.max_side,
            "resize": self.resize, "tolerance": self.tolerance, "version": VERSION,
        }


def _checksum(module: nn.Module | None) -> str:
    """SHA-256 of a network's structure and weights."""
    if module is None:
        return ""
    options = [(name, {key: value for key, value in vars(part).items() if isinstance(value, (int, float, str))})
               for name, part in module.named_modules()]
    digest = hashlib.sha256(f"{module} {options}".encode())
    for tensor in module.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read(window: Window, stop: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Lets a window read on; {number: (frame, mask)} at the size of the video of what it has read."""
    return {number: (frame, mask) for number, frame, mask in window.read_to(stop)}


def insert(fill: np.ndarray | None, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`frame` (H, W, 3) with `fill` (h, w, 3), resized to it, where `mask` (H, W) is not 0; uint8."""
    if fill is None:
        return frame
    hole = mask != 0
    result = frame.copy()
    result[hole] = resize(fill, frame.shape[:2], cv2.INTER_CUBIC)[hole]
    return result
