"""The video method `diffusion`: what edited keyframes show is carried to all other frames, coarse to fine."""
import collections
import tempfile
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gi import resources
from gi.config.device import find_device
from gi.diffusion.extra import extra
from gi.diffusion.network import KeyframeDiffusion
from gi.diffusion.plan import coarse_to_fine, overlapping
from gi.diffusion.windows import ClipFiller, Item, in_windows, memory_named, stacked
from gi.errors import InputError, expect_at_least
from gi.media import io
from gi.media.crop import resize, resize_known, working_size
from gi.video.identity import network_checksum
from gi.video.method import Part, Pictures, VideoMethod, pieces

SMALL = resources.bundled("checkpoints/ours_diffusion_small.safetensors")
REACH = 8  # frames around a part that are decoded with it, as decoders look at neighbours


class Diffusion(VideoMethod):
    """A video diffusion model fills clips, in which frames without a hole are its keyframes.

    Args:
        checkpoint: a file of `KeyframeDiffusion.save_pretrained`; the small model that comes along without it.
        backbone: folder or hub id of the frozen weights, if not where the checkpoint says.
        plan: of a video longer than a clip. "coarse_to_fine": first frames spread over all of it, then what lies
            between them; these are fixed. "multidiffusion": overlapping clips at once, averaged after each step.
        frames: of a clip (default: as in training). Fewer take less memory, and see less.
        steps: of sampling, calls of the network for each clip; time grows with them.
        guidance: how far to exaggerate what keyframes and known pixels ask for: at keyframes, and a clip's length from
            them. 1: not at all, with half the arithmetic; too much looks overdrawn.
        fps: frames a second, as the network is told; fewer ask for larger steps from frame to frame.
        motion_bucket: how much motion to draw, as the network is told; SVD knows 0 to 255.
        augmentation: how noisy the network is told its conditions are.
        soften: pixels inside the hole over which a step of brightness at its border fades; 0: none.
        max_side, resize: the working size: bounded (default: as in training), or (width, height).
        precision: of the UNet. bf16 takes half the memory; auto: for large networks on CUDA.
        seed: of the noise.
    """

    def __init__(self, *, checkpoint: str | Path | None = None, backbone: str | Path | None = None,
                 plan: Literal["coarse_to_fine", "multidiffusion"] = "coarse_to_fine", frames: int | None = None,
                 steps: int = 25, guidance: float | Sequence[float] = (1.0, 3.0), fps: float = 7.0,
                 motion_bucket: float = 127.0, augmentation: float = 0.0, soften: int = 0, max_side: int | None = None,
                 resize: Sequence[int] | None = None, precision: Literal["auto", "32", "bf16"] = "auto",
                 device: str | torch.device = "auto", seed: int = 0):
        bounds = [guidance] * 2 if isinstance(guidance, (int, float)) else list(guidance)
        if len(bounds) != 2:
            raise InputError(f"guidance: expected one number or two, at keyframes and far from them, got {guidance}")
        expect_at_least(0, motion_bucket=motion_bucket, augmentation=augmentation, soften=soften, seed=seed)
        expect_at_least(1, steps=steps, fps=fps, max_side=8 if max_side is None else max_side)
        extra("diffusers")
        if checkpoint is None and not SMALL.is_file():
            raise InputError(f"checkpoint: none is named, and the small model {SMALL} is not there; expected "
                             "checkpoint=FILE.safetensors of a trained one")
        self.device = find_device(device)
        network = KeyframeDiffusion.from_pretrained(checkpoint or SMALL, backbone, self.device)
        self.plan, self.frames = plan, network.frames if frames is None else frames
        expect_at_least(3, frames=self.frames)
        if precision == "bf16" or (precision == "auto" and network.backbone() and self.device.type == "cuda"):
            network.unet.to(torch.bfloat16)
        self.filler = ClipFiller(network, steps=steps, guidance=(bounds[0], bounds[1]), soften=soften, seed=seed,
                                 ids=(fps - 1, motion_bucket, augmentation))
        self.max_side, self.resize = network.max_side if max_side is None else max_side, resize
        self._settings = {"network": network_checksum(network), "plan": plan, "frames": self.frames, "steps": steps,
                          "guidance": bounds, "ids": self.filler.ids.tolist(), "soften": soften, "seed": seed,
                          "max_side": self.max_side, "resize": None if resize is None else list(resize),
                          "diffusers": extra("diffusers").__version__}
        self._folder: Path | None = None

    def settings(self) -> dict[str, object]:
        return self._settings

    def parts(self, count: int, *, edited: Collection[int] = ()) -> list[Part]:
        if self.plan == "multidiffusion":
            return pieces(count, length=self.frames, reach=REACH)
        return coarse_to_fine(count, self.frames, edited).windows

    # Before the windows -----------------------------------------------------------------------------------------------

    def fit(self, frames: Pictures, masks: Pictures, *, folder: Path,
            edited: Mapping[int, np.ndarray]) -> Iterator[tuple[int, int]]:
        """Fills the anchors, and keeps them in `folder` as pictures; a clip that was interrupted begins again.

        With plan "multidiffusion", all frames' latents, step by step.
        """
        self._folder = folder
        for number, frame in edited.items():
            if number >= frames.count or frame.shape[:2] != (frames.height, frames.width):
                raise InputError(f"edited frame {number}: {frame.shape[1]}x{frame.shape[0]}, expected one of frames 0 "
                                 f"to {frames.count - 1} with {frames.width}x{frames.height} pixels")
        yield from self._fit_together(frames, masks, edited) if self.plan == "multidiffusion" else self._fit_anchors(
            frames, masks, edited)

    def _fit_anchors(self, frames, masks, edited):
        clips, steps, finished = coarse_to_fine(frames.count, self.frames, edited).coarse, self._steps, _Count(
            self._folder / "clips_done")
        yield finished.value * steps, len(clips) * steps
        for done, clip in enumerate(clips[finished.value:], finished.value):
            first, stop = clip.frames[0], clip.frames[-1] + 1
            shown = zip(frames.frames(first, stop), masks.frames(first, stop), strict=True)
            items = list(self._items(shown, first, edited, given=clip.given, wanted={*clip.frames}))
            wanted = [place for place, item in enumerate(items) if item.number in clip.kept and item.hole.any()]
            if wanted:
                pictures, holes = stacked(items)
                for step, found in enumerate(self.filler.steps(pictures, holes, clip.frames), 1):
                    latents = found
                    yield done * steps + min(step, steps - 1), len(clips) * steps
                filled = self.filler.decode(latents, pictures, holes)
                for place in wanted:
                    io.write_image(self._anchor(items[place].number), filled[place])
            finished.write(done + 1)
            yield (done + 1) * steps, len(clips) * steps

    def _fit_together(self, frames, masks, edited):
        """State: the latents of all frames, for the number of steps that their file's name says."""
        kept = sorted(self._folder.glob("latents_*.safetensors"))
        done = int(kept[-1].stem.partition("_")[2]) if kept else 0
        yield done, self._steps
        if done == self._steps:
            return
        shape = (frames.count, *self._size((frames.height, frames.width)), 3)
        views, any_hole = [], False
        windows = overlapping(frames.count, self.frames, self.frames // 2)
        with memory_named((self.frames, *shape[1:])):
            items = self._items(zip(frames.frames(), masks.frames(), strict=True), 0, edited)
            for _, clip in in_windows(items, [(window.start, window.stop) for window in windows]):
                pictures, holes = stacked(clip)
                view, any_hole = self.filler.view(pictures, holes, clip[0].number), any_hole or holes.any()
                views.append(view._replace(conditions=type(view.conditions)(*(part.cpu() for part in view.conditions))))
            if not any_hole:
                return
            begun = self._latents(kept[-1]) if kept else self.filler.noise(range(frames.count), shape)
            for step, latents in enumerate(self.filler.denoise(begun, views, done), done + 1):
                with io.atomic_write(self._folder / f"latents_{step:04d}.safetensors") as temporary:
                    save_file({"latents": latents.cpu()}, temporary)
                for path in kept:
                    path.unlink(missing_ok=True)
                kept = [self._folder / f"latents_{step:04d}.safetensors"]
                yield step, self._steps

    # Windows ----------------------------------------------------------------------------------------------------------

    def fill(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], *, edited: Mapping[int, np.ndarray],
             part: Part | None = None) -> Iterator[np.ndarray | None]:
        """Yields pictures at the working size. Without a part, the whole video is read into memory first."""
        if part is None:
            yield from self._fill_all(list(frames), list(masks), edited)
            return
        if self._folder is None:
            raise InputError("nothing is prepared for this video yet: expected a call of fit before")
        own = [window for window in self.parts(part.count, edited=edited) if part.first <= window.first < part.stop]
        given: Collection[int] = edited
        if self.plan == "coarse_to_fine":
            given = coarse_to_fine(part.count, self.frames, edited).anchors | edited.keys()
        items = self._items(zip(frames, masks, strict=True), part.start, edited, given)
        for window, clip in in_windows(items, [(window.start, window.end) for window in own]):
            kept = own[window].frames
            pictures, holes = stacked(clip)
            filled = pictures
            if holes[kept.start - clip[0].number:kept.stop - clip[0].number].any():
                filled = self._fill(pictures, holes, range(clip[0].number, clip[-1].number + 1))
            for item, picture in zip(clip, filled, strict=True):
                if item.number in kept:
                    yield picture

    def _fill(self, pictures, holes, numbers):
        if self.plan == "multidiffusion":
            path, = self._folder.glob(f"latents_{self._steps:04d}.safetensors")
            return self.filler.decode(self._latents(path, numbers.start, numbers.stop), pictures, holes)
        latents, = collections.deque(self.filler.steps(pictures, holes, numbers), maxlen=1)
        return self.filler.decode(latents, pictures, holes)

    def _fill_all(self, frames, masks, edited):
        if not frames:
            return
        with tempfile.TemporaryDirectory() as folder:
            for _ in self.fit(_Held(frames), _Held(masks), folder=Path(folder), edited=edited):
                pass
            for part in self.parts(len(frames), edited=edited):
                yield from self.fill(frames[part.start:part.end], masks[part.start:part.end], edited=edited, part=part)
        self._folder = None

    # Frames at the working size ---------------------------------------------------------------------------------------

    @property
    def _steps(self):
        return len(self.filler.levels) - 1

    def _size(self, size):
        return working_size(size, max_side=self.max_side, resize=self.resize)

    def _items(self, pairs, first, edited, given: Container[int] = (), wanted: Container[int] | None = None):
        """`Item`s of frames and masks from number `first` on; those edited or `given` are whole."""
        for number, (frame, mask) in enumerate(pairs, first):
            if wanted is None or number in wanted:
                size = self._size(mask.shape)
                if number in edited:
                    picture, hole = resize(edited[number], size, cv2.INTER_AREA), np.zeros(size, bool)
                else:
                    picture, hole = resize_known(frame, mask != 0, size)
                    if number in given and hole.any():
                        picture, hole = io.read_image(self._anchor(number)), np.zeros(size, bool)
                yield Item(number, picture, hole)

    def _anchor(self, number):
        return self._folder / f"anchor_{number:06d}.png"

    def _latents(self, path, start=0, stop=None):
        with safe_open(path, "pt") as file:
            return file.get_slice("latents")[:, start:stop]


class _Count:
    """A number in a file, 0 without one."""

    def __init__(self, path):
        self.path = path
        self.value = int(path.read_text()) if path.is_file() else 0

    def write(self, value):
        with io.atomic_write(self.path) as temporary:
            temporary.write_text(str(value))


class _Held:
    """Frames or masks in memory, as `Pictures`."""

    def __init__(self, items):
        self.count, (self.height, self.width), self._items = len(items), items[0].shape[:2], items

    def frames(self, start=0, stop=None):
        return iter(self._items[start:stop])
