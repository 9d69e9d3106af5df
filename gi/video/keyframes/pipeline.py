"""From frames with holes to frames without: key targets by the generator, everything else along optical flow.

    from gi.video import VideoInpainter
    inpainter = VideoInpainter.from_checkpoint()
    for frame in inpainter(frames, masks):  # iterators of arrays in, an iterator of arrays out
        ...

Memory does not depend on the length of a video. `gi.video.job` does the same for files, and resumes.
"""
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gi.config import instantiate
from gi.config.device import find_device
from gi.errors import InputError, expect_at_least
from gi.flow.guidance import FlowGuidance, expect_blind
from gi.media.crop import MIN_SIDE, working_size
from gi.models.fold import prepare_for_inference
from gi.video.identity import network_checksum
from gi.video.keyframes import plan
from gi.video.keyframes.chunk import ChunkFiller
from gi.video.keyframes.edits import AHEAD
from gi.video.keyframes.window import Window
from gi.video.method import Part, VideoMethod
from gi.weights.pretrained import FLOWS, Pretrained, load_trained


class VideoInpainter(Pretrained, VideoMethod):
    """Fills the holes of a video with the help of keyframes and optical flow.

    Key targets, every `every` frames, are filled by the generator with other frames as keyframes (paper, supplement
    A). A frame between two of them takes, for every pixel of its hole, what optical flow leads to in either direction:
    with `prealign` a pixel that another frame of the chunk shows, at the latest one of the filled key targets. What no
    flow reaches is filled by the generator with the two key targets as keyframes. Nothing in the holes has influence.

    Args:
        generator: any family, called as generator(target, sources, flows, flow_errors). None: flow alone, and
            `cv2.inpaint` for what it does not reach.
        guidance: a FlowGuidance with `mask_images`; its estimator is used between neighbours as well.
        device: see `find_device`.
        every: frames from one key target to the next.
        guides: 6 or 14, the paper's offsets of the keyframes, or any list of offsets, or 0 for none.
        prealign: first copy into a key target what flow leads to in other frames within reach, and let the frames
            between take pixels from each other. Without it, holes show what the generator made of the key targets.
        max_side: frames with a longer side are reduced for all of this, and the holes' content enlarged again.
        resize: (width, height) to work at, instead of `max_side`.
        tolerance: of forward-backward errors along a way, see `trace`.
        flow_budget: bytes of flow kept on the host.
    """

    def __init__(self, *, generator: nn.Module | None, guidance: FlowGuidance, device: str | torch.device = "auto",
                 every: int = plan.EVERY, guides: int | Sequence[int] = 14, prealign: bool = True,
                 max_side: int | None = None, resize: tuple[int, int] | None = None, tolerance: float = 10.0,
                 flow_budget: int = 1 << 29):
        if max_side is not None:
            expect_at_least(MIN_SIDE, max_side=max_side)
        if resize is not None and (len(resize) != 2 or min(resize) < MIN_SIDE):
            raise InputError(f"resize: expected (width, height) of at least {MIN_SIDE}, got {resize}")
        expect_at_least(1, every=every)
        expect_blind(guidance, FlowGuidance)
        self.device = find_device(device)
        self._networks = network_checksum(generator), network_checksum(guidance)
        self.generator = None if generator is None else prepare_for_inference(generator).to(self.device)
        self.guidance = guidance.to(self.device)
        self.every, self.offsets, self.prealign = every, plan.guide_offsets(guides), prealign
        self.max_side, self.resize, self.tolerance, self.flow_budget = max_side, resize, tolerance, flow_budget
        self.reach = max(map(abs, self.offsets), default=0) or self.every
        self.longest = self.every + (self.every + 1) // 2  # that a chunk can be, see `plan.anchors`

    @classmethod
    def from_checkpoint(cls, checkpoint: str | Path | None = None, *, config: str | Path | None = None,
                        flow: str = "config", device: str | torch.device = "auto", overrides: Sequence[str] = (),
                        **options: Any) -> "VideoInpainter":
        """With the generator of a checkpoint, see `Inpainter.from_checkpoint`; options: those of the class."""
        find_device(device)  # before anything slow
        trained = load_trained(checkpoint, config=config, flow=flow, overrides=overrides)
        inpainter = cls(generator=trained.generator, guidance=trained.guidance, device=device, **options)
        inpainter.trained = trained
        return inpainter

    @classmethod
    def from_flow(cls, flow: str = "dis", **options: Any) -> "VideoInpainter":
        """Without a network, along the optical flow of one of `gi.weights.pretrained.FLOWS`, such as "aligned".

        options: those of the class.
        """
        if FLOWS.get(flow) is None:
            raise InputError(f"flow: expected one of {', '.join(name for name in FLOWS if FLOWS[name])}, got {flow!r}")
        guidance = FlowGuidance(estimator=instantiate(FLOWS[flow], "flow"), mask_images=True)
        return cls(generator=None, guidance=guidance, **options)

    # The class that fills chunks; that of `gi.internal.candidates` also returns intermediate results.
    filler: type[ChunkFiller] = ChunkFiller

    def fill(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], *, edited: Mapping[int, np.ndarray],
             part: Part | None = None) -> Iterator[np.ndarray | None]:
        """Fills at the size this works at, a chunk after the other; see `VideoMethod.fill`."""
        start, stop = (part.first, part.stop) if part else (0, None)
        place = {"first": part.start, "count": part.count} if part else {}
        window = self.window(frames, masks, edited=edited, **place)
        filler = self.filler(self, window)
        while window.next < start:  # in steps, for bounded memory also where edits come from far before
            window.read_to(min(window.next + self.every, start))
            filler.edits.follow(window.next, window.next - 1)
            filler.edits.forget(start)
            window.drop(min(window.next - 1, start - self.reach))
        while True:
            if window.count is None:  # far enough to know where the chunk ends
                window.read_to(start + self.longest + 1)
            edited_so_far = [number for number in window.edited if number < window.known_count]
            anchors = plan.anchors(window.known_count, every=self.every, edited=edited_so_far)
            last = next((anchor for anchor in anchors if anchor > start), start)
            chunk = plan.Chunk(start, last, last == (window.count or 0) - 1)
            window.read_to(max(chunk.last + self.reach, *_ahead(chunk, edited)) + 1)
            fills = filler(chunk)
            for number in chunk.frames:
                yield fills.get(number)
            if chunk.final or chunk.last == stop:
                return
            start = chunk.last

    def parts(self, count: int, *, edited: Collection[int] = ()) -> list[Part]:
        """The chunks of a video, with the frames within reach of them and those that edits pass on their way there."""
        chunks = plan.chunks(plan.anchors(count, every=self.every, edited=edited))
        return [Part(chunk.first, chunk.last + chunk.final, max(0, min(chunk.first - self.reach, *edited, count)),
                     min(count, max(chunk.last + self.reach, *_ahead(chunk, edited)) + 1), count) for chunk in chunks]

    def window(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], **options: Any) -> Window:
        """A window on a video at the size this works at; options as of `Window`."""
        return Window(frames, masks, size=self.working_size, device=self.device, **options)

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that frames of `size` are worked at. Raises InputError where a network has nothing to see."""
        size = working_size(size, max_side=self.max_side, resize=self.resize)
        if min(size) < 2 and self.generator is not None:
            raise InputError(f"frames of {size[1]}x{size[0]} pixels: expected at least 2x2")
        return size

    def settings(self) -> dict[str, object]:
        return {"networks": self._networks} | {name: getattr(self, name) for name in (
            "every", "offsets", "prealign", "max_side", "resize", "tolerance")}


def _ahead(chunk, edited):
    """Edited frames that are followed into a chunk, and its last frame."""
    return chunk.last, *(number for number in edited if number <= chunk.last + AHEAD)
