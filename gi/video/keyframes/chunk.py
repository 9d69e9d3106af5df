"""One chunk of a video: its key targets, then the frames between them."""
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gi.compositing import composite, masked, pixels_of_tensor
from gi.errors import InputError, expect_finite
from gi.flow.threads import torch_threads
from gi.heap import release_freed
from gi.models.classical import opencv_inpaint
from gi.video.keyframes import plan
from gi.video.keyframes.edits import Edits
from gi.video.keyframes.flows import VideoFlows
from gi.video.keyframes.frame_streams import FrameStreams
from gi.video.keyframes.region import is_thin, region
from gi.video.keyframes.trace import Step, propagate
from gi.video.keyframes.window import Window
from gi.video.method import VideoMethod

DOUBTFUL = 0.1  # trust below which the network replaces copied colours, in key targets; in all frames it costs too much
FARTHEST = 40  # frames that a pixel is followed through; on two videos, 80 gave no better results


class Filled(NamedTuple):
    """A frame without hole."""

    image: Tensor  # 1, 3, h, w
    guessed: Tensor  # 1, 1, h, w: 1 where neither this frame nor one that flow leads to shows the place


class ChunkFiller:
    """Fills one chunk of a video after the other; what neighbouring chunks share is computed once.

    `settings` has the generator, the guidance and the numbers, as a `VideoInpainter` does.
    """

    def __init__(self, settings: VideoMethod, window: Window):
        self.settings, self.window = settings, window
        self.flows = VideoFlows(settings.guidance, window, budget=settings.flow_budget)
        self.edits = Edits(window, self.flows, tolerance=settings.tolerance)
        self.streams = None if settings.generator is None else FrameStreams(settings.generator)
        self._filled: dict[int, Filled] = {}  # anchors

    @torch.inference_mode()
    def __call__(self, chunk: plan.Chunk) -> dict[int, np.ndarray]:
        """The frames of a chunk that have holes, filled: {number: uint8 (h, w, 3)} at the size of the window.

        The window must hold the frames from `reach` before the chunk to `reach` behind it, and those to the edited
        frames that `Edits` follows; what lies before is dropped.
        """
        self._forget(chunk)
        self.edits.follow(chunk.first, chunk.last)
        for anchor in chunk.anchors:
            if anchor not in self._filled:
                self._filled[anchor] = self._anchor(anchor)
        numbers = [number for number in chunk.frames if self.window.frame(number)[1].any()]
        with self._parallel() as each:
            return dict(zip(numbers, each(lambda number: self._picture(number, chunk), numbers), strict=True))

    @contextlib.contextmanager
    def _parallel(self):
        """Within it, flow is estimated ahead; yields a `map` that runs its calls in parallel.

        On a CPU: on as many Python threads as torch has, with a single thread of torch in each.
        """
        if self.window.device.type != "cpu":
            yield map
            return
        with torch_threads(1) as threads:
            if threads == 1:
                yield map
                return
            with ThreadPoolExecutor(threads) as flows, ThreadPoolExecutor(threads) as frames:
                self.flows.pool = flows
                try:
                    yield lambda function, items: frames.map(torch.inference_mode()(function), items)
                finally:
                    self.flows.pool = None
                    for pool in frames, flows:
                        pool.shutdown(cancel_futures=True)

    def _picture(self, number, chunk):
        """A frame of a chunk, filled: uint8 (h, w, 3)."""
        filled = self._filled[number] if number in chunk.anchors else self._between(number, chunk)
        picture = pixels_of_tensor(filled.image[0])
        release_freed(after=self.window.size)
        return picture

    def _forget(self, chunk):
        """Drops what neither this chunk nor one behind it needs."""
        every, reach, window, first = self.settings.every, self.settings.reach, self.window, chunk.first
        # Whether the video ends with a target is known in time: before anything that guides it could be dropped.
        irregular = {*window.edited, *([] if window.count is None else [window.count - 1])}
        regular = range((first // every + 1) * every, first + 2 * reach + 1, every)
        targets = {*regular, *(target for target in (first, *irregular) if target >= first)} - self._filled.keys()
        guides = {guide for target in targets for guide in self._guides(target)}
        # Pixels are followed from targets that are still to be filled, and from the frames of the chunk within it.
        to_fill = min((anchor for anchor in chunk.anchors if anchor not in self._filled), default=chunk.last)
        farthest = min(first, to_fill - min(reach, FARTHEST))
        window.drop(farthest, keep=guides)
        self.flows.drop(farthest, targets=targets)
        self.edits.forget(first)
        self._filled = {anchor: image for anchor, image in self._filled.items() if anchor >= first}
        if self.streams is not None:
            self.streams.keep({("given", number) for number in guides} | {("filled", first)})

    def _guides(self, target):
        return plan.guides(target, self.window.known_count, self.settings.offsets, edited=self.window.edited)

    def _anchor(self, target):
        """A key target, filled."""
        window, reach = self.window, min(self.settings.reach, FARTHEST)
        image, mask = self.edits.insert(target, *window.frame(target))
        spans = [(min(reach, target), -1), (min(reach, window.known_count - 1 - target), 1)]
        if self.settings.prealign:
            with self._parallel():
                image, mask = self._propagate(target, image, mask, spans, window.frame, doubtful=DOUBTFUL)
        return self._generate(target, image, mask, self._guides(target), "given", window.frame)

    def _between(self, number, chunk):
        image, mask = self.edits.insert(number, *self.window.frame(number))
        spans = [(number - chunk.first, -1), (chunk.last - number, 1)]
        # Without prealign, key targets show the network's output. Their neighbours must not show copied pixels instead,
        # or the key targets would flicker.
        if self.settings.prealign:
            image, mask = self._propagate(number, image, mask, spans, self._known)
        # Without a network, what no frame shows is filled in each frame by itself: flow there follows whatever passes
        # the hole.
        if self.streams is not None or not self.settings.prealign:
            image, mask = self._propagate(number, image, mask, spans, self._current, only=self._filled, adapt=True)
        return self._generate(number, image, mask, list(chunk.anchors), "filled", self._current)

    def _propagate(self, number, image, mask, spans, content, *, only=None, **options):
        """`content` gives image and mask of the frames on the way; pixels are taken from the frames in `only`, or from
        all.
        """
        directions = [(length, self._steps(number, direction, content, only)) for length, direction in spans]
        return propagate(image, mask, directions, tolerance=self.settings.tolerance, **options)

    def _steps(self, number, direction, content, only=None):
        """What `trace` asks for on the way from a frame in a direction, see `_propagate`."""
        def step(i):
            current, neighbour = number + i * direction, number + (i + 1) * direction
            if neighbour + direction in self.window:
                self.flows.expect(neighbour, neighbour + direction)
            image, hole = content(neighbour)
            known = (1 - hole) * (only is None or neighbour in only)
            return Step(*self.flows.to_neighbour(current, neighbour), image, known, self.flows.gain(current, neighbour))
        return step

    def _generate(self, number, image, mask, guides, kind, content):
        """Fills the missing pixels that are left; `content` gives image and mask of the guides, `kind` tells whether
        these are filled.
        """
        if not mask.any():
            return Filled(image, mask)
        if mask.all() and (self.streams is None or all(content(guide)[1].all() for guide in guides)):
            raise InputError(f"frame {number}: everything is missing, and no frame that guides it shows anything")
        if self.streams is None or kind == "filled" and is_thin(mask):
            return Filled(opencv_inpaint(image, mask), mask)
        with self._parallel():
            flows, errors = self.flows.to_guides(number, guides)
        # Streams of the guides of key targets are reused for the next key targets, so these see whole frames.
        box = region(mask, flows) if kind == "filled" else None
        index = (...,) if box is None else (..., slice(box.top, box.bottom), slice(box.left, box.right))
        keyframes = [((kind, guide) if box is None else None, lambda guide=guide: masked(*content(guide))[index])
                     for guide in guides]
        release_freed()
        prediction = self.streams.predict(masked(image, mask)[index], keyframes, flows[index], errors[index])
        release_freed()
        image = image.clone()
        image[index] = composite(expect_finite(prediction.float()), image[index], mask[index])
        return Filled(image, mask)

    def _current(self, number):
        """Image and mask of a frame, filled if it is. Not for anchors: they must not depend on each other."""
        if number not in self._filled:
            return self.window.frame(number)
        image = self._filled[number].image
        return image, torch.zeros_like(image[:, :1])

    def _known(self, number):
        """Image and mask of a frame, without what was guessed in it."""
        return self._filled.get(number) or self.window.frame(number)
