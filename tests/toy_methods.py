"""Methods of filling videos as somebody else would write them, each for one thing that jobs have to do."""
import json

import numpy as np

from gi.media import io
from gi.video.method import VideoMethod, pieces


class Grey(VideoMethod):
    """One grey for all holes."""

    def __init__(self, *, level: int = 128):
        self.level = level

    def fill(self, frames, masks, *, edited, part=None):
        for frame, _ in zip(frames, masks, strict=True):
            yield np.full_like(frame, self.level)

    def parts(self, count, *, edited=()):
        return pieces(count, length=5)

    def settings(self):
        return {"level": self.level}


class Mean(VideoMethod):
    """The mean colour of the known pixels, found in five steps over the video; one part, at half the size."""

    def settings(self):
        return {}

    def fit(self, frames, masks, *, folder, edited):
        state, total = folder / "state.json", 5
        sums = json.loads(state.read_text()) if state.is_file() else []
        yield len(sums), total
        while len(sums) < total:
            pairs = zip(frames.frames(), masks.frames(), strict=True)
            sums.append(float(np.mean([frame[mask == 0].mean() for frame, mask in pairs])))
            with io.atomic_write(state) as temporary:
                temporary.write_text(json.dumps(sums))
            yield len(sums), total
        self.level = round(sum(sums) / total)

    def fill(self, frames, masks, *, edited, part=None):
        for frame, mask in zip(frames, masks, strict=True):
            yield np.full((frame.shape[0] // 2, frame.shape[1] // 2, 3), self.level, np.uint8) if mask.any() else None


class Neighbours(VideoMethod):
    """The mean of three frames, as they are shown: it looks at what is around its part, and into the holes."""

    def settings(self):
        return {}

    def fill(self, frames, masks, *, edited, part=None):
        frames = list(frames)
        first, start = (part.first, part.start) if part else (0, 0)
        for i in range(first - start, len(frames) if part is None else part.stop - start):
            yield np.mean(frames[max(0, i - 1):i + 2], axis=0).astype(np.uint8)

    def parts(self, count, *, edited=()):
        return pieces(count, length=4, reach=1)
