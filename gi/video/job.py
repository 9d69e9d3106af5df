"""Inpainting a video file or a folder of frames, in chunks that are kept on disk, so that an interrupted run goes on.

Finished chunks lie in a hidden folder beside the result, named after the checksum of inputs and settings: only a run
with the same ones finds them. Chunks do not depend on each other, so several machines can share them out.
"""
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from gi.errors import InputError
from gi.media import io
from gi.media.files import VideoSource, check_output, open_writer
from gi.media.masks import MaskSource
from gi.video.keyframes import plan
from gi.video.keyframes.chunk import ChunkFiller
from gi.video.keyframes.pipeline import VideoInpainter, insert

_MARGIN = 4  # pixels around a hole that enlarging its content looks at


class VideoJob:
    """One video to be inpainted into one result.

    Args:
        inpainter: with all its settings.
        video, masks: what to fill; see `gi.media.files` and `gi.media.masks`.
        out: video file or folder of PNG files.
        edited: frames edited by hand by their number, uint8 (H, W, 3) of the video's size.
        quality: of a video file, see `gi.media.writer`.

    Raises:
        InputError: if the result cannot be written there or an edited frame does not fit.
    """

    def __init__(self, inpainter: VideoInpainter, video: VideoSource, masks: MaskSource, out: str | Path, *,
                 edited: Mapping[int, np.ndarray] | None = None, **options):
        self.inpainter, self.video, self.masks, self.out = inpainter, video, masks, Path(out)
        self.edited, self.options = dict(edited or {}), options
        check_output(out, video, masks, **options)
        for number, frame in self.edited.items():
            if frame.shape[:2] != (video.height, video.width):
                raise InputError(f"edited frame {number}: {frame.shape[1]}x{frame.shape[0]}, but the video is "
                                 f"{video.width}x{video.height}")
        self.chunks = plan.chunks(plan.anchors(video.count, every=inpainter.every, edited=self.edited))
        self.folder = self.out.parent / f".{self.out.name}.{self._checksum()[:16]}.chunks"

    @property
    def missing(self) -> list[plan.Chunk]:
        """The chunks that are not on disk yet."""
        return [chunk for chunk in self.chunks if not self._path(chunk).is_file()]

    @property
    def others(self) -> list[Path]:
        """Folders with chunks of the same result from other inputs or settings."""
        if not self.out.parent.is_dir():
            return []
        found = [path for path in self.out.parent.iterdir() if path.is_dir()
                 and path.name.startswith(f".{self.out.name}.") and path.name.endswith(".chunks")]
        return sorted(set(found) - {self.folder})

    def fill(self, chunks: Sequence[plan.Chunk]) -> Iterator[plan.Chunk]:
        """Computes chunks and keeps them on disk, yielding each of them once it is there."""
        for run in plan.runs(chunks):
            yield from self._fill_run(run)

    def _fill_run(self, run):
        """Chunks that follow each other, which share what they have in common."""
        start = max(0, run[0].first - self.inpainter.reach)
        window = self.inpainter.window(self.video.frames(start), self.masks.frames(start), edited=self.edited,
                                       first=start, count=self.video.count)
        filler = ChunkFiller(self.inpainter, window)
        for chunk in run:
            for _ in window.read_to(chunk.last + self.inpainter.reach + 1):
                pass
            fills = filler(chunk)
            self._write(chunk, {number: (fill, window.mask(number)[0, 0].cpu().numpy())
                                for number, fill in fills.items()})
            yield chunk

    def join(self) -> Iterator[int]:
        """Writes the result from the chunks on disk and deletes them, yielding each frame's number once it is written.

        Raises:
            InputError: if a chunk is missing or damaged.
        """
        with open_writer(self.out, self.video, **self.options) as writer:
            sources = zip(self.video.frames(), self.masks.frames(), strict=True)
            for chunk in self.chunks:
                fills = self._read(chunk)
                for number in chunk.frames:
                    frame, mask = next(sources)
                    edited = self.edited.get(number)
                    writer.write(insert(fills.get(number), frame, mask) if edited is None else edited)
                    yield number
        for folder in (self.folder, *self.others):
            shutil.rmtree(folder, ignore_errors=True)

    def _path(self, chunk):
        return self.folder / f"{chunk.first:06d}.npz"

    def _write(self, chunk, fills):
        arrays = {}
        for number, (fill, mask) in fills.items():
            box = tuple(slice(max(where[0] - _MARGIN, 0), where[-1] + 1 + _MARGIN)
                        for where in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)))
            arrays[f"fill_{number}"] = fill[box]
            arrays[f"place_{number}"] = np.array([box[0].start, box[1].start, *fill.shape[:2]])
        with io.atomic_write(self._path(chunk), durable=True) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    def _read(self, chunk):
        """{number: fill (h, w, 3)}, 0 away from the hole."""
        path, fills = self._path(chunk), {}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                for name in arrays.files:
                    kind, number = name.split("_")
                    if kind == "fill":
                        part, (top, left, height, width) = arrays[name], arrays[f"place_{number}"]
                        fills[int(number)] = fill = np.zeros((height, width, 3), np.uint8)
                        fill[top:top + part.shape[0], left:left + part.shape[1]] = part
        except Exception as error:  # zip files can be damaged in many ways
            raise InputError(f"{path}: cannot read this finished chunk ({error}); delete the file and run again"
                             ) from error
        return fills

    def _checksum(self):
        edited = {number: hashlib.sha256(frame.tobytes()).hexdigest() for number, frame in self.edited.items()}
        parts = [self.video.fingerprint(), self.masks.fingerprint(), edited, self.inpainter.settings()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
