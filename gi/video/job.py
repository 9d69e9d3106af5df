"""Inpainting a video file or a folder of frames, in parts that are kept on disk, so that an interrupted run can be
resumed.

Finished parts, and the state of a method that is fitted to the video, lie in a hidden folder where the result will be,
named by the checksum of inputs, settings and code, whatever the result is called. Several machines can share the parts.
"""
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gi.errors import InputError
from gi.heap import release_freed
from gi.media.arguments import check_edited
from gi.media.crop import Box
from gi.media.prefetch import prefetch
from gi.media.rehearsal import rehearse
from gi.media.source import VideoSource
from gi.media.writer import check_output, open_writer
from gi.video.identity import code_checksum
from gi.video.method import Part, VideoMethod, apart, insert, joined, runs, share
from gi.video.preview import Preview
from gi.video.store import read_part, write_part
from gi.video.workspace import Leftover, Workspace


class Progress(NamedTuple):
    """How far a job is: `done` of `total` steps of the work that is named `stage`."""

    stage: str
    done: int
    total: int


class VideoJob:
    """One video to be inpainted into one result.

    Args:
        video, masks: see `gi.media.files` and `gi.media.masks`.
        out: video file or folder of PNG files.
        edited: frames edited by hand by their number, uint8 (H, W, 3) of the video's size.
        preview: a folder for small pictures of filled frames, see `Preview`.
        options: of `gi.media.writer.open_writer`.

    Raises InputError if the result cannot be written there or an edited frame does not fit.
    """

    def __init__(self, method: VideoMethod, video: VideoSource, masks: VideoSource, out: str | Path, *,
                 edited: Mapping[int, np.ndarray] | None = None, preview: Path | None = None, **options: Any):
        self.method, self.video, self.masks, self.out = method, video, masks, Path(out)
        self.edited, self.options = dict(edited or {}), options
        check_output(out, video, masks, **options)
        check_edited(self.edited, size=(video.height, video.width), count=video.count)
        self.preview = None if preview is None else Preview(preview, video, masks, self.edited)
        self.parts = method.parts(video.count, edited=self.edited)
        self.checksum = self._checksum()
        self.folder = self.out.parent / f".gi-{self.checksum[:16]}.chunks"
        self._description = {"video": str(video.path.absolute()), "out": str(self.out.absolute())}
        self._workspace = Workspace(self.folder, {**self._description, "masks": str(masks.path.absolute()),
                                                  "method": type(method).__qualname__})
        self._fitted = self.folder / "fitted"  # exists once the method has been fitted to the end

    @property
    def missing(self) -> list[Part]:
        """The parts that are not on disk yet."""
        return [part for part in self.parts if not self._path(part).is_file()]

    @property
    def leftovers(self) -> list[Leftover]:
        """Folders of runs for the same result or video with other inputs, settings or code, left behind or in use."""
        return self._workspace.leftovers(self._description)

    def share(self, number: int, of: int) -> list[Part]:
        """The parts that one of several machines is to compute, `number` from 1 to `of`.

        Raises InputError for another share than the first, which fits the method to the video, before that is done.
        """
        parts = share(self.parts, number, of)
        if number > 1 and self.method.fits and not self._fitted.is_file():
            raise InputError(f"chunk {number}/{of}: the method is fitted to the video by chunk 1/{of}, which has not "
                             "finished that yet; start this one again then")
        return parts

    def run(self, parts: Sequence[Part] | None = None) -> Iterator[Progress]:
        """Computes parts that are missing and, without `parts`, all of them and the result; see the steps below.

        Writing the result is tried before the work: see `gi.media.rehearsal.rehearse`. At the end the parts are
        deleted, unless another process is using them.
        """
        with self._workspace.used():
            todo = [part for part in self.missing if parts is None or part in parts]
            if todo:
                rehearse(self.out, self.video, self.folder, reserved=self._most_kept(todo), **self.options)
                yield from self.fit()
                yield from self.fill(todo)
            if parts is None:
                yield from self.join()
                self._workspace.remove()

    def fit(self) -> Iterator[Progress]:
        """Fits the method to the video, if it is one that is fitted, from where an earlier run has left it."""
        if self.method.fits:
            state, visible = self.folder / "fit", _Visible(self.video, self.masks)
            state.mkdir(parents=True, exist_ok=True)
            with self._workspace.alone("fit", wait=self._fitted.is_file()):  # a finished one is only read
                for done, total in self.method.fit(visible, self.masks, folder=state, edited=self.edited):
                    yield Progress("fitting", done, total)
                self._fitted.touch()

    def fill(self, parts: Sequence[Part]) -> Iterator[Progress]:
        """Computes parts and keeps them on disk, each completely or not at all."""
        done, total = 0, sum(len(part.frames) for part in parts)
        yield Progress("frames filled", done, total)
        for run in runs(parts):  # neighbours share what they have in common
            fills = self._fills(joined(run))
            if self.preview is not None:
                fills = self.preview.watch(fills, joined(run))
            for part in run:
                with write_part(self._path(part)) as keep:
                    for number in part.frames:
                        fill, hole = next(fills)
                        if hole is not None:
                            keep(number, fill, hole, (self.video.height, self.video.width))
                        done += 1
                        if number + 1 < part.stop:
                            yield Progress("frames filled", done, total)
                    self._check_inputs()
                yield Progress("frames filled", done, total)  # the last one, now that the part is on disk

    def join(self) -> Iterator[Progress]:
        """Writes the result from the parts on disk. Raises InputError if one is missing or damaged."""
        self._check_inputs()
        release_freed()
        yield Progress("frames written", 0, self.video.count)
        with open_writer(self.out, self.video, workplace=self.folder, **self.options) as writer:
            sources = prefetch(zip(self.video.frames(), self.masks.frames(), strict=True))
            for part in self.parts:
                with read_part(self._path(part)) as fill_of:
                    for number in part.frames:
                        frame, mask = next(sources)
                        if number in self.edited:
                            frame = self.edited[number]
                        elif mask.any():
                            frame = insert(fill_of(number), frame, mask)
                        writer.write(frame)
                        yield Progress("frames written", number + 1, self.video.count)
            self._check_inputs()

    def _most_kept(self, parts):
        """Bytes that the fills of parts take on disk at most, by the boxes of their holes, without their margins."""
        boxes = (Box.around(mask) for part in parts for mask in self.masks.frames(part.first, part.stop))
        return sum(3 * box.size[0] * box.size[1] for box in boxes if box is not None)

    def _path(self, part):
        return self.folder / f"{part.first:06d}.npz"

    def _fills(self, part):
        """(fill, box of its hole) of each frame of a part, both None where nothing is to be filled."""
        pairs = _Visible(self.video, self.masks).pairs(part.start, part.end)
        frames, masks, holes = apart(((frame, mask, Box.around(mask)) for frame, mask in pairs), 3)
        fills = self.method.fill(frames, masks, edited=self.edited, part=part)
        holes = itertools.islice(holes, part.first - part.start, None)  # without those of frames that only help
        for number in part.frames:
            fill, hole = next(fills, None), next(holes)  # in this order, or frames would be read before they are wanted
            if hole is None or number in self.edited:
                yield None, None
            elif isinstance(fill, np.ndarray) and fill.dtype == np.uint8 and fill.ndim == 3 and fill.shape[2] == 3:
                yield fill, hole
            else:
                description = f"{fill.dtype} {fill.shape}" if isinstance(fill, np.ndarray) else type(fill).__name__
                raise InputError(f"frame {number}: {type(self.method).__name__} gave {description}, "
                                 "expected uint8 (h, w, 3)")

    def _check_inputs(self):
        for source in (self.video, self.masks):
            source.check_unchanged()

    def _checksum(self):
        edited = {number: hashlib.sha256(frame.tobytes()).hexdigest() for number, frame in self.edited.items()}
        kind = type(self.method)
        parts = [self.video.fingerprint(), self.masks.fingerprint(), edited, f"{kind.__module__}.{kind.__qualname__}",
                 self.method.settings(), code_checksum(self.method)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Visible:
    """A video with 0 in its holes, so that their content cannot have any influence."""

    def __init__(self, video, masks):
        self.count, self.height, self.width = video.count, video.height, video.width
        self._video, self._masks = video, masks

    def frames(self, start=0, stop=None):
        return (frame for frame, _ in self.pairs(start, stop))

    def pairs(self, start=0, stop=None):
        for frame, mask in zip(self._video.frames(start, stop), self._masks.frames(start, stop), strict=True):
            yield np.where(mask[..., None], np.uint8(0), frame) if mask.any() else frame, mask
