"""Long videos, coarse to fine: anchors are filled first, and given to the windows between them."""
import collections
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from gi.diffusion.filler import ClipFiller
from gi.diffusion.plan import coarse_to_fine
from gi.diffusion.windows import WorkingFrames, stacked
from gi.media import io
from gi.video.method import Part, Pictures


class CoarseToFine:
    """The plan of `gi.diffusion.plan`; frames: of a clip."""

    def __init__(self, filler: ClipFiller, frames: int):
        self.filler, self.frames = filler, frames

    def parts(self, count: int, edited: Collection[int]) -> list[Part]:
        """The windows."""
        return coarse_to_fine(count, self.frames, edited).windows

    def known_frames(self, count: int, edited: Collection[int]) -> frozenset[int]:
        """Frames that windows get whole."""
        return coarse_to_fine(count, self.frames, edited).anchors.union(edited)

    def prepare(self, frames: Pictures, masks: Pictures, working: WorkingFrames) -> Iterator[tuple[int, int]]:
        """Fills the anchors, clip by clip, and yields (done, total) steps. A clip that was interrupted begins again.

        Anchors are kept as pixels, as they will be in the result: known pixels unchanged, filled ones decoded once.
        """
        clips, steps = coarse_to_fine(frames.count, self.frames, working.edited).coarse, self.filler.count
        state = working.folder / "clips_done"
        finished = int(state.read_text()) if state.is_file() else 0
        yield finished * steps, len(clips) * steps
        for number, clip in enumerate(clips[finished:], finished):
            first, stop = clip.frames[0], clip.frames[-1] + 1
            pairs = zip(frames.frames(first, stop), masks.frames(first, stop), strict=True)
            items = list(working.items(pairs, first, clip.known, selected={*clip.frames}))
            to_keep = [place for place, item in enumerate(items) if item.number in clip.kept and item.hole.any()]
            if to_keep:
                pictures, holes = stacked(items)
                for step, latents in enumerate(self.filler.steps(pictures, holes, clip.frames), 1):
                    if step == steps:
                        filled = self.filler.decode(latents, pictures, holes)
                    else:
                        yield number * steps + step, len(clips) * steps
                for place in to_keep:
                    working.keep(items[place].number, filled[place])
            with io.atomic_write(state) as temporary:
                temporary.write_text(str(number + 1))
            yield (number + 1) * steps, len(clips) * steps

    def fill(self, pictures: np.ndarray, holes: np.ndarray, numbers: Sequence[int], folder: Path) -> np.ndarray:
        """Frames of a window, uint8 (F, h, w, 3), with their holes filled."""
        latents, = collections.deque(self.filler.steps(pictures, holes, numbers), maxlen=1)
        return self.filler.decode(latents, pictures, holes)
