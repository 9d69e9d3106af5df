"""Long videos in overlapping windows at once: temporal MultiDiffusion, the alternative to coarse to fine."""
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gi.diffusion.filler import ClipFiller, enough_memory
from gi.diffusion.network import Conditions
from gi.diffusion.plan import overlapping
from gi.diffusion.windows import WorkingFrames, in_windows, stacked
from gi.media import io
from gi.video.method import Part, Pictures, pieces

REACH = 8  # frames around a part that are decoded with it, as decoders look at neighbours


class MultiDiffusion:
    """One latent for the whole video; frames: of a window, of which neighbours share half."""

    def __init__(self, filler: ClipFiller, frames: int):
        self.filler, self.frames = filler, frames

    def parts(self, count: int, edited: Collection[int]) -> list[Part]:
        """The parts that are decoded at once."""
        return pieces(count, length=self.frames, reach=REACH)

    def known_frames(self, count: int, edited: Collection[int]) -> frozenset[int]:
        """Frames that windows get whole."""
        return frozenset(edited)

    def prepare(self, frames: Pictures, masks: Pictures, working: WorkingFrames) -> Iterator[tuple[int, int]]:
        """Makes the latents of all frames, and yields (done, total) steps; each step is kept.

        Conditions wait on the CPU. They, and the latents, are all that grows with the video.
        """
        done = max((step for step in range(self.filler.count + 1) if _path(working.folder, step).is_file()), default=0)
        yield done, self.filler.count
        if done == self.filler.count:
            return
        size = working.size((frames.height, frames.width))
        with enough_memory((self.frames, *size)):
            views, holes_anywhere = [], False
            items = working.items(zip(frames.frames(), masks.frames(), strict=True), 0)
            windows = overlapping(frames.count, self.frames, self.frames // 2)
            for _, clip in in_windows(items, [(window.start, window.stop) for window in windows]):
                pictures, holes = stacked(clip)
                view, holes_anywhere = self.filler.view(pictures, holes, clip[0].number), holes_anywhere or holes.any()
                views.append(view._replace(conditions=Conditions(*(part.cpu() for part in view.conditions))))
            if not holes_anywhere:
                return
            latents = _read(working.folder, done) if done else self.filler.noise(range(frames.count),
                                                                                 (frames.count, *size, 3))
            for step, denoised in enumerate(self.filler.denoise(latents, views, done), done + 1):
                with io.atomic_write(_path(working.folder, step)) as temporary:
                    save_file({"latents": denoised.cpu()}, temporary)
                _path(working.folder, step - 1).unlink(missing_ok=True)
                yield step, self.filler.count

    def fill(self, pictures: np.ndarray, holes: np.ndarray, numbers: Sequence[int], folder: Path) -> np.ndarray:
        """Frames of a part, uint8 (F, h, w, 3), with their holes filled."""
        latents = _read(folder, self.filler.count, numbers[0], numbers[-1] + 1)
        return self.filler.decode(latents, pictures, holes)


def _path(folder: Path, step: int) -> Path:
    return folder / f"latents_{step:04d}.safetensors"


def _read(folder: Path, step: int, start: int = 0, stop: int | None = None) -> Tensor:
    with safe_open(_path(folder, step), "pt") as file:
        return file.get_slice("latents")[:, start:stop]
