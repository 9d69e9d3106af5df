"""One chunk of a video: its key targets, then the frames between them."""
import ctypes
import sys
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gi.compositing import composite, masked
from gi.flow.guidance import FlowGuidance
from gi.models.classical import opencv_inpaint
from gi.video.keyframes import plan
from gi.video.keyframes.flows import VideoFlows
from gi.video.keyframes.frame_streams import FrameStreams
from gi.video.keyframes.propagate import propagate
from gi.video.keyframes.trace import Step
from gi.video.keyframes.window import Window

FARTHEST = 40  # frames that a pixel is followed through; on two videos, 80 found nothing better
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


class Settings(Protocol):
    """What chunks need to know, as of `VideoInpainter`."""

    generator: nn.Module | None
    guidance: FlowGuidance
    every: int
    offsets: tuple[int, ...]
    reach: int
    prealign: bool
    tolerance: float
    flow_budget: int


class ChunkFiller:
    """Fills one chunk of a video after the other; what neighbouring chunks share is computed once."""

    def __init__(self, settings: Settings, window: Window):
        self.settings = settings
        self.window = window
        self.flows = VideoFlows(settings.guidance, window, budget=settings.flow_budget)
        self.streams = None if settings.generator is None else FrameStreams(settings.generator)
        self._filled: dict[int, Tensor] = {}  # anchors

    @torch.inference_mode()
    def __call__(self, chunk: plan.Chunk) -> dict[int, np.ndarray]:
        """The frames of a chunk that have holes, filled: {number: uint8 (h, w, 3)} at the size of the window.

        The window must hold the frames from `reach` before the chunk to `reach` behind it, as far as there are any;
        what lies before is forgotten.
        """
        self._forget(chunk)
        for anchor in chunk.anchors:
            if anchor not in self._filled:
                self._filled[anchor] = self._anchor(anchor)
        fills = {}
        for number in chunk.frames:
            if self.window.mask(number).any():
                filled = self._filled[number] if number in chunk.anchors else self._between(number, chunk)
                fills[number] = (255 * filled[0]).round().byte().permute(1, 2, 0).cpu().numpy()
        return fills

    def _forget(self, chunk):
        """Drops what neither this chunk nor one behind it needs."""
        every, reach, window, first = self.settings.every, self.settings.reach, self.window, chunk.first
        # Whether the video ends with a target is known in time: by when anything that guides it could be dropped.
        irregular = {*window.edited, *([] if window.count is None else [window.count - 1])}
        regular = range((first // every + 1) * every, first + 2 * reach + 1, every)
        targets = {*regular, *(target for target in (first, *irregular) if target >= first)} - self._filled.keys()
        guides = {guide for target in targets for guide in self._guides(target)}
        # Pixels are followed from targets that are still to be filled, and from the frames of the chunk within it.
        to_fill = min((anchor for anchor in chunk.anchors if anchor not in self._filled), default=chunk.last)
        farthest = min(first, to_fill - min(reach, FARTHEST))
        window.drop(farthest, keep=guides)
        self.flows.drop(farthest, targets=targets)
        self._filled = {anchor: image for anchor, image in self._filled.items() if anchor >= first}
        if self.streams is not None:
            self.streams.keep({("given", number) for number in guides} | {("filled", first)})

    def _guides(self, target):
        return plan.guides(target, self._count, self.settings.offsets, edited=self.window.edited)

    @property
    def _count(self):
        """Frames of the video, as far as it is known."""
        return self.window.next if self.window.count is None else self.window.count

    def _anchor(self, target):
        """A key target without hole, (1, 3, h, w)."""
        window, reach = self.window, min(self.settings.reach, FARTHEST)
        image, mask = window.image(target), window.mask(target)
        ways = [(min(reach, target), -1), (min(reach, self._count - 1 - target), 1)]
        edited = [number for number in window.edited if abs(number - target) <= reach]
        if edited:  # what the user has painted comes before what else is known
            image, mask = self._propagate(target, image, mask, ways, self._edits)
        if self.settings.prealign:
            image, mask = self._propagate(target, image, mask, ways, self._seen)
        return self._generate(target, image, mask, self._guides(target), self._given)

    def _between(self, number, chunk):
        image, mask = self.window.image(number), self.window.mask(number)
        ways = [(number - chunk.first, -1), (chunk.last - number, 1)]
        # Without prealign the key targets show what the network made up. Their neighbours must not know better, or the
        # key targets would flash up.
        content = self._known if self.settings.prealign else self._key_targets
        image, mask = self._propagate(number, image, mask, ways, content)
        return self._generate(number, image, mask, list(chunk.anchors), self._key_target)

    def _propagate(self, number, image, mask, ways, content):
        def steps(direction):
            def step(i):
                here, there = number + i * direction, number + (i + 1) * direction
                return Step(*self.flows.to_neighbour(here, there), *content(there), self.flows.gain(here, there))
            return step
        directions = [(length, steps(direction)) for length, direction in ways]
        return propagate(image, mask, directions, tolerance=self.settings.tolerance)

    def _generate(self, number, image, mask, guides, stream):
        """Fills what is left; `stream` makes of a guide's number what `FrameStreams` wants."""
        if not mask.any():
            return image
        if self.streams is None:
            return opencv_inpaint(image, mask)
        flows, errors = self.flows.to_guides(number, guides)
        _release_freed()
        prediction = self.streams.predict(masked(image, mask), [stream(guide) for guide in guides], flows, errors)
        _release_freed()
        return composite(prediction.float(), image, mask)

    # What a frame shows: to pixels on their way (image (1,3,h,w), known (1,1,h,w)), to the generator (key, maker).

    def _seen(self, number):
        return self.window.image(number), 1 - self.window.mask(number)

    def _edits(self, number):
        image, known = self._seen(number)
        return image, known * (number in self.window.edited)

    def _known(self, number):
        """Not for anchors: they must not depend on each other, or chunks would."""
        if number in self._filled:
            image = self._filled[number]
            return image, torch.ones_like(image[:, :1])
        return self._seen(number)

    def _key_targets(self, number):
        image, known = self._known(number)
        return image, known * (number in self._filled)

    def _given(self, number):
        return ("given", number), lambda: masked(self.window.image(number), self.window.mask(number))

    def _key_target(self, number):
        image = self._filled[number]
        return ("filled", number), lambda: masked(image, torch.zeros_like(image[:, :1]))


def _release_freed():
    """Hands freed memory back to the system: glibc keeps it, in pieces that the next large tensor does not fit into."""
    if _trim is not None:
        _trim(0)
