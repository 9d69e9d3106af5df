"""The masks of a whole video from annotated frames: passes from each of them in both directions, kept on disk.

The masks of a pass are kept in a hidden folder where the result will be, a small picture a frame, so that an
interrupted run can be resumed and memory does not grow with the length of the video.
"""
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from gi.errors import InputError, expect_at_least
from gi.media import io
from gi.media.crop import limited, resize
from gi.media.cuts import CutFinder
from gi.media.masks import grow
from gi.media.source import VideoSource
from gi.video.identity import code_checksum
from gi.video.job import Progress
from gi.video.mask_output import check_output, open_output
from gi.video.outline import parts_of, without_specks
from gi.video.propagate_flow import BACK, Annotated, Follower
from gi.video.workspace import Workspace

MAX_SIDE = 432
_CHUNK = 32  # frames that are in memory when a video is read backwards
_SPECK = 0.3  # of the smallest part of an annotation: smaller parts are removed, unless there is no other


class Pass(NamedTuple):
    """Frames start, start + step, … before stop, from the annotated frame start - step on."""

    start: int
    stop: int
    step: int

    @property
    def frames(self) -> range:
        return range(self.start, self.stop, self.step)

    @property
    def origin(self) -> int:
        """The annotated frame."""
        return self.start - self.step

    @property
    def name(self) -> str:
        return f"{self.origin:06d}{'+' if self.step > 0 else '-'}"


class MaskPropagation:
    """One video, some of whose frames are annotated, and the masks of all.

    Args:
        annotations: masks by the number of their frame, uint8 (H, W) of the video's size, 1 = object; empty ones say
            that the object is not there.
        out: video file or folder of PNG files, see `gi.video.mask_output`.
        overlay: a video of the frames with the masks drawn on them.
        max_side: of the frames that objects are followed in.
        dilate: pixels that all masks are grown by in the end.
        components: how many parts of a mask are kept at most, the largest.

    Raises InputError if an annotation does not fit, all are empty, one covers a frame, or nothing can be written there.
    """

    def __init__(self, follower: Follower, video: VideoSource, annotations: Mapping[int, np.ndarray], out: str | Path,
                 *, overlay: str | Path | None = None, max_side: int = MAX_SIDE, dilate: int = 0,
                 components: int | None = None):
        expect_at_least(8, max_side=max_side)
        expect_at_least(0, dilate=dilate)
        expect_at_least(1, components=1 if components is None else components)
        self.follower, self.video, self.out, self.overlay = follower, video, Path(out), overlay
        self.annotations, self.dilate, self.components = dict(sorted(annotations.items())), dilate, components
        self._check_annotations()
        check_output(self.out, video, overlay)
        self.size = limited((video.height, video.width), max_side)
        self.folder = self.out.parent / f".gi-{self._checksum()[:16]}.masks"
        self._workspace = Workspace(self.folder, {"video": str(video.path.absolute()),
                                                  "out": str(self.out.absolute()), "work": "masks"})
        self.empty: list[int] = []  # frames in which nothing was found

    def run(self) -> Iterator[Progress]:
        """Finds, joins and writes the masks. Raises InputError if a shot has no annotation, before objects are
        followed.
        """
        with self._workspace.used():
            shots = yield from self._shots()
            with self._workspace.alone("fit"):
                small = self._small_annotations()
                for done, total in self.follower.fit(small, self.folder):
                    yield Progress("fitting", done, total)
            cores = {number: self.follower.core(annotated) for number, annotated in small.items()}
            margins = {number: core.margin for number, core in cores.items()}
            passes = self._passes(shots)
            yield from self._follow(passes, {number: core.mask for number, core in cores.items()})
            yield from self._write(passes, margins)
            self._workspace.remove()

    def _check_annotations(self):
        if not self.annotations:
            raise InputError("expected a mask of at least one frame")
        for number, mask in self.annotations.items():
            if not 0 <= number < self.video.count:
                raise InputError(f"frame {number}: {self.video.path} has frames 0 to {self.video.count - 1}")
            if mask.shape != (self.video.height, self.video.width):
                raise InputError(f"mask of frame {number}: {mask.shape[1]}x{mask.shape[0]}, expected "
                                 f"{self.video.width}x{self.video.height} as {self.video.path}")
            if mask.all():
                raise InputError(f"mask of frame {number}: covers all of it, so that nothing tells object and "
                                 "background apart")
        if not any(mask.any() for mask in self.annotations.values()):
            raise InputError(f"mask of frame {next(iter(self.annotations))}: is empty, expected a mask of the object")

    def _checksum(self):
        masks = {number: hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
                 for number, mask in self.annotations.items()}
        kind = type(self.follower)
        parts = [self.video.fingerprint(), masks, f"{kind.__module__}.{kind.__qualname__}", self.follower.settings(),
                 self.size, code_checksum(self.follower)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _shots(self):
        """[(first, stop) of each shot]."""
        kept = self.folder / "cuts.json"
        if kept.is_file():
            cuts = json.loads(kept.read_text())
        else:
            finder = CutFinder()
            yield Progress("frames looked through for cuts", 0, self.video.count)
            for number, _ in enumerate(finder.watch(self.video.frames()), start=1):
                yield Progress("frames looked through for cuts", number, self.video.count)
            cuts = finder.cuts
        shots = list(itertools.pairwise([0, *cuts, self.video.count]))
        for first, stop in shots if not self.follower.alone else ():
            if not any(first <= number < stop for number in self.annotations):
                raise InputError(f"{self.video.path}: another shot begins with frame {first}, and none of its frames "
                                 f"up to {stop - 1} has a mask; expected one, empty if the object is not in it")
        with io.atomic_write(kept) as temporary:
            temporary.write_text(json.dumps(cuts))
        return shots

    def _passes(self, shots):
        """In both directions from each annotated frame, up to the next one or the end of the shot."""
        if self.follower.alone:
            shots = [(0, self.video.count)]
        passes = []
        for first, stop in shots:
            numbers = [number for number in self.annotations if first <= number < stop]
            for before, number, after in zip([first - 1, *numbers], numbers, [*numbers[1:], stop], strict=False):
                if not self.follower.alone or before == first - 1:
                    passes.append(Pass(number - 1, before, -1))
                passes.append(Pass(number + 1, after, 1))
        return passes

    def _small(self, frame):
        return resize(frame, self.size, cv2.INTER_AREA)

    def _small_annotations(self):
        """The annotated frames and their masks at the working size."""
        small = {}
        for number, mask in self.annotations.items():
            frame = next(self.video.frames(number, number + 1))
            shares = resize(mask.astype(np.float32), self.size, cv2.INTER_AREA)
            reduced = (shares >= 0.5).astype(np.uint8)
            small[number] = Annotated(self._small(frame), reduced if reduced.any() else
                                      (shares > 0).astype(np.uint8))
        return small

    def _follow(self, passes, cores):
        total = sum(len(part.frames) for part in passes)
        done = sum(self._finished(part) for part in passes)
        yield Progress("masks found", done, total)
        for part in passes:
            first = self._finished(part)
            if first == len(part.frames):
                continue
            past = self._past(part, first, cores)
            for number, frame in self._frames(part, first):
                mask = self.follower.find(past, frame)
                io.write_image(self._path(part, number), 255 * mask)
                past = [*past, Annotated(frame, mask)][-max(BACK):]
                done += 1
                yield Progress("masks found", done, total)
        self.video.check_unchanged()

    def _finished(self, part):
        """How many frames of a pass are on disk, from its start without a gap."""
        return next((place for place, number in enumerate(part.frames) if not self._path(part, number).is_file()),
                    len(part.frames))

    def _past(self, part, first, cores):
        """The frames and masks before the frame at place `first` of a pass."""
        numbers = [part.origin, *part.frames[:first]][-max(BACK):]
        frames = self.video.frames(min(numbers), max(numbers) + 1)
        small = {number: self._small(frame) for number, frame in enumerate(frames, min(numbers))}
        return [Annotated(small[number], cores[number] if number == part.origin else self._read_mask(part, number))
                for number in numbers]

    def _frames(self, part, first):
        """(number, reduced frame) of a pass from its place `first` on."""
        rest = part.frames[first:]
        for start in range(0, len(rest), _CHUNK if part.step < 0 else len(rest)):
            numbers = sorted(rest[start:start + _CHUNK] if part.step < 0 else rest)
            small = ((number, self._small(frame)) for number, frame in
                     zip(numbers, self.video.frames(numbers[0], numbers[-1] + 1), strict=True))
            yield from small if part.step > 0 else reversed(list(small))

    def _path(self, part, number):
        return self.folder / part.name / f"{number:06d}.png"

    def _read_mask(self, part, number):
        return (io.read_image(self._path(part, number))[..., 0] > 0).astype(np.uint8)

    def _write(self, passes, margins):
        reached = [[part for part in passes if number in part.frames] for number in range(self.video.count)]
        least = _SPECK * min(parts_of(mask)[-1] for mask in self.annotations.values() if mask.any())
        self.empty = []
        yield Progress("masks written", 0, self.video.count)
        with open_output(self.out, self.video, self.overlay) as write:
            for number, parts in enumerate(reached):
                if number in self.annotations:
                    mask = self.annotations[number]
                else:
                    mask = without_specks(self._joined(number, parts, margins), least=least, most=self.components)
                    if not mask.any():
                        self.empty.append(number)
                write(grow(mask, self.dilate))
                yield Progress("masks written", number + 1, self.video.count)

    def _joined(self, number, parts, margins):
        """The mask of one or two passes, at full size. The outline of two that agree lies between theirs, nearer to the
        one from the nearer annotation; otherwise that one counts, unless it has lost the object.
        """
        masks = [self._read_mask(part, number) for part in parts]
        depths = [signed_distance(mask) + margins[part.origin] for mask, part in zip(masks, parts, strict=True)]
        weights = [1 / abs(number - part.origin) for part in parts]
        if len(parts) == 2 and not agree(*(depth > 0 for depth in depths)):
            lost = [not mask.any() and self.annotations[part.origin].any()
                    for mask, part in zip(masks, parts, strict=True)]
            kept = int(np.argmax(weights)) if lost[0] == lost[1] else lost.index(False)
            depths, weights = [depths[kept]], [1.0]
        depth = sum(weight * depth for weight, depth in zip(weights, depths, strict=True)) / sum(weights)
        full = resize(self.video.width / self.size[1] * depth, (self.video.height, self.video.width), cv2.INTER_LINEAR)
        return (full > 0).astype(np.uint8)


def agree(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two masks (h, w), bool, overlap by half of what either has."""
    return bool(2 * (first & second).sum() >= (first | second).sum() > 0)


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """(h, w) float32: pixels to the outline of a mask, positive inside; very negative without any inside, the
    longer side where all is inside.
    """
    if not mask.any():
        return np.full(mask.shape, -1e6, np.float32)
    inside, outside = (cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (mask, 1 - mask))
    inside = np.minimum(inside, max(mask.shape))  # of a mask without any outline it would be endless
    return np.where(mask > 0, inside - 0.5, 0.5 - outside)
