"""The video method `diffusion`: what edited keyframes show is carried to all other frames."""
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from gi import resources
from gi.config.device import find_device
from gi.diffusion.anchors import CoarseToFine
from gi.diffusion.codec import VideoAutoencoder
from gi.diffusion.extra import extra
from gi.diffusion.filler import ClipFiller
from gi.diffusion.multidiffusion import MultiDiffusion
from gi.diffusion.network import KeyframeDiffusion
from gi.diffusion.windows import WorkingFrames, in_windows, stacked
from gi.errors import InputError, expect_at_least
from gi.media.crop import working_size
from gi.video.identity import network_checksum
from gi.video.method import Held, Part, Pictures, VideoMethod, say

SMALL = resources.bundled("checkpoints/ours_diffusion_small.safetensors")
PLANS = {"coarse_to_fine": CoarseToFine, "multidiffusion": MultiDiffusion}


class Diffusion(VideoMethod):
    """A video diffusion model fills clips, in which frames without a hole are its keyframes.

    Args:
        checkpoint: a file of `KeyframeDiffusion.save_pretrained`. None: checkpoints/ours_diffusion_small.safetensors,
            if somebody has trained one and put it there.
        backbone: folder or hub id of the frozen weights, if not where the checkpoint says.
        plan: of a video longer than a clip. "coarse_to_fine": first frames spread over all of it, then what lies
            between them; these are fixed. "multidiffusion": overlapping clips at once, averaged after each step.
        frames: of a clip (default: as in training). Fewer take less memory, and see less.
        codec_chunk: of these, how many the autoencoder takes at once (default: as in training). Fewer take less
            memory, and may leave seams.
        steps: of sampling, calls of the network for each clip; time grows with them.
        guidance: how far to exaggerate what keyframes and known pixels ask for: at keyframes, and a clip's length from
            them. 1: not at all, with half the arithmetic; too much looks overdrawn.
        fps: frames a second, as the network is told; fewer ask for larger steps from frame to frame.
        motion_bucket: how much motion to draw, as the network is told; SVD knows 0 to 255.
        augmentation: how noisy the network is told its conditions are.
        soften: pixels inside the hole over which a step of brightness at its border fades; 0: none.
        max_side, resize: the working size: bounded (default: as in training), or (width, height).
        precision: of the UNet, whatever the file says. bf16 takes half the memory; auto: bf16 for large networks on
            CUDA, else 32.
        seed: of the noise.
    """

    def __init__(self, *, checkpoint: str | Path | None = None, backbone: str | Path | None = None,
                 plan: Literal["coarse_to_fine", "multidiffusion"] = "coarse_to_fine", frames: int | None = None,
                 steps: int = 25, guidance: float | Sequence[float] = (1.0, 3.0), fps: float = 7.0,
                 motion_bucket: float = 127.0, augmentation: float = 0.0, soften: int = 0, max_side: int | None = None,
                 resize: Sequence[int] | None = None, precision: Literal["auto", "32", "bf16"] = "auto",
                 codec_chunk: int | None = None, device: str | torch.device = "auto", seed: int = 0):
        bounds = [guidance] * 2 if isinstance(guidance, (int, float)) else list(guidance)
        if len(bounds) != 2:
            raise InputError(f"guidance: expected one number or two, at keyframes and far from them, got {guidance}")
        expect_at_least(0, motion_bucket=motion_bucket, augmentation=augmentation, soften=soften, seed=seed)
        expect_at_least(1, steps=steps, fps=fps, max_side=8 if max_side is None else max_side,
                        codec_chunk=1 if codec_chunk is None else codec_chunk)
        extra("diffusers")
        if checkpoint is None and not SMALL.is_file():
            raise InputError(f"checkpoint: none is named, and the small model {SMALL} is not there; expected "
                             "checkpoint=FILE.safetensors of a trained one")
        network = KeyframeDiffusion.from_pretrained(checkpoint or SMALL, backbone, find_device(device))
        if licence := network.licence():
            say(licence)
        large = network.backbone() and next(network.parameters()).is_cuda
        half = precision == "bf16" or (precision == "auto" and large)
        # diffusers' own `to` warns of layers that this network does not have.
        torch.nn.Module.to(network.unet, torch.bfloat16 if half else torch.float32)
        if codec_chunk is not None and isinstance(network.codec, VideoAutoencoder):
            network.codec.chunk, network.codec.overlap = codec_chunk, min(network.codec.overlap, codec_chunk - 1)
        frames = network.frames if frames is None else frames
        expect_at_least(3, frames=frames)
        self.filler = ClipFiller(network, steps=steps, guidance=(bounds[0], bounds[1]), soften=soften, seed=seed,
                                 ids=(fps - 1, motion_bucket, augmentation))
        self.plan = PLANS[plan](self.filler, frames)
        self.max_side, self.resize = network.max_side if max_side is None else max_side, resize
        self._settings = {"plan": plan, "frames": frames, "steps": steps, "guidance": bounds, "soften": soften,
                          "ids": self.filler.ids.tolist(), "seed": seed, "max_side": self.max_side,
                          "resize": None if resize is None else list(resize)}
        self._working: WorkingFrames | None = None

    def settings(self) -> dict[str, object]:
        return {"network": network_checksum(self.filler.network), "diffusers": extra("diffusers").__version__,
                **self._settings}

    def parts(self, count: int, *, edited: Collection[int] = ()) -> list[Part]:
        return self.plan.parts(count, edited)

    def fit(self, frames: Pictures, masks: Pictures, *, folder: Path,
            edited: Mapping[int, np.ndarray]) -> Iterator[tuple[int, int]]:
        """What the plan makes for the whole video before its parts; see there. Only what is not in `folder` yet."""
        self._working = WorkingFrames(self._size, edited, folder)
        yield from self.plan.prepare(frames, masks, self._working)

    def fill(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], *, edited: Mapping[int, np.ndarray],
             part: Part | None = None) -> Iterator[np.ndarray | None]:
        """Yields pictures at the working size. Without a part, the whole video is read into memory first."""
        if part is None:
            yield from self._fill_all(list(frames), list(masks), edited)
            return
        if self._working is None:
            raise InputError("nothing is prepared for this video yet: expected a call of fit before")
        own = [window for window in self.parts(part.count, edited=edited) if part.first <= window.first < part.stop]
        items = self._working.items(zip(frames, masks, strict=True), part.start,
                                    self.plan.known_frames(part.count, edited))
        for which, clip in in_windows(items, [(window.start, window.end) for window in own]):
            kept, start = own[which].frames, own[which].start
            filled, holes = stacked(clip)
            if holes[kept.start - start:kept.stop - start].any():
                filled = self.plan.fill(filled, holes, [item.number for item in clip], self._working.folder)
            yield from (filled[number - start] for number in kept)

    def _fill_all(self, frames, masks, edited):
        if not frames:
            return
        with tempfile.TemporaryDirectory() as folder:
            for _ in self.fit(Held(frames), Held(masks), folder=Path(folder), edited=edited):
                pass
            for part in self.parts(len(frames), edited=edited):
                yield from self.fill(frames[part.start:part.end], masks[part.start:part.end], edited=edited, part=part)
        self._working = None

    def _size(self, size):
        return working_size(size, max_side=self.max_side, resize=self.resize)
