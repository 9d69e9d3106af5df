"""Latents of clips on disk, so that an autoencoder sees each clip once."""
import hashlib
import math
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gi.diffusion.network import KeyframeDiffusion
from gi.errors import InputError, expect_within
from gi.media.io import atomic_write


class LatentCache:
    """z_0 / scale and z_c of clips as they are encoded, in 16 bits, a file each below `folder`.

    A file is named by a hash of the clip's pixels, of its masks, and of codec and condition, so that it is never the
    wrong one. It helps where clips come again: `repeat` of `gi.data.clips.Clips`. Encoding goes on without writing once
    this process has written `limit` GiB, which may be infinite. Clips of 25 frames of 576x320 take 1.7 MB.
    """

    def __init__(self, *, folder: str, limit: float = 100.0):
        expect_within(0, math.inf, limit=limit)
        self.folder, self._room = Path(folder), limit * 2**30
        self._codec: bytes | None = None

    def encode(self, network: KeyframeDiffusion, pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """(latents, not scaled, and those of the condition) of clips (B, F, 3, H, W) in [0, 1], masks (B, F, 1, H, W).

        Raises InputError, naming the file, if one is damaged.
        """
        parts = [self._encode(network, clip[None], hole[None]) for clip, hole in zip(pixels, masks, strict=True)]
        latents, conditions = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return latents, conditions

    def _encode(self, network, pixels, masks):
        path = self._path(network, pixels, masks)
        if path.is_file():
            try:
                stored_parts = load_file(path)
                return stored_parts["latents"].to(pixels), stored_parts["condition"].to(pixels)
            except (SafetensorError, KeyError, OSError) as error:
                raise InputError(f"{path}: damaged ({error}); delete it and run again") from error
        with torch.no_grad():
            parts = {"latents": network.codec.encode(pixels),
                     "condition": network.condition(pixels, masks, network.codec)}
        stored = {name: value.half().cpu().contiguous() for name, value in parts.items()}
        size = sum(value.nbytes for value in stored.values())
        if size <= self._room:
            self._room -= size
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as temporary:
                save_file(stored, temporary)
        # The rounded values are returned the first time, too, as they are what is read later.
        return stored["latents"].to(pixels), stored["condition"].to(pixels)

    def _path(self, network, pixels, masks):
        if self._codec is None:
            codec, state = network.codec, network.codec.state_dict()
            digest = hashlib.sha256(f"{type(codec).__name__} {codec.factor} {network.condition.kind}".encode())
            for name in sorted(state):
                digest.update(name.encode() + _content(state[name]))
            self._codec = digest.digest()
        digest = hashlib.sha256(self._codec + str(tuple(pixels.shape)).encode())
        digest.update(_content((255 * pixels).round().byte()))
        digest.update(_content(masks.byte()))
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"


def _content(tensor):
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
