"""The networks that a configuration can name: Stable Video Diffusion with LoRA, and a small one that is trained from
scratch.
"""
import logging
from typing import Any, Literal

import torch

from gi.diffusion import diffusers_folder, lora
from gi.diffusion.codec import Codec, PixelShuffle, VideoAutoencoder
from gi.diffusion.condition import Condition, Kind
from gi.diffusion.extra import extra
from gi.diffusion.network import KeyframeDiffusion
from gi.diffusion.token import ClipToken, LinearToken
from gi.errors import InputError, expect_within

log = logging.getLogger(__name__)
GROUPS = 32  # of the UNet's GroupNorms, which divide its widths


class SmallDiffusion(KeyframeDiffusion):
    """The same UNet, but small and trained from scratch, without downloaded files.

    Args:
        widths: channels at each size, multiples of 32; each size is half of the one before. All but the last have
            attention, as in SVD.
        layers: residual blocks at each size.
        head_width: channels of a head of attention.
        token_dim: size of the token that describes the keyframe.
        codec: from pixels to latents; None: `PixelShuffle`, pixels 4x4 each.
        condition: see `gi.diffusion.condition.Condition`.
        frames, sigma_max, max_side: see `KeyframeDiffusion`.
    """

    def __init__(self, *, widths: tuple[int, ...] = (32, 64), layers: int = 1, head_width: int = 32,
                 token_dim: int = 32, codec: Codec | None = None, condition: Kind = "symmetric", frames: int = 8,
                 sigma_max: float = 80.0, max_side: int = 128):
        expect_within(1, 64, layers=layers, widths=len(widths))  # an untrusted file may ask for any number
        _expect_clips(frames, max_side)
        if len(widths) < 2 or any(width < GROUPS or width % GROUPS or width % head_width for width in widths):
            raise InputError(f"widths: expected two or more multiples of {GROUPS} and of head_width {head_width}, "
                             f"got {', '.join(map(str, widths))}")
        codec, conditioning = codec or PixelShuffle(), Condition(condition)
        attending = len(widths) - 1
        unet = extra("diffusers").UNetSpatioTemporalConditionModel(
            in_channels=codec.channels + conditioning.channels(codec), out_channels=codec.channels,
            down_block_types=(*["CrossAttnDownBlockSpatioTemporal"] * attending, "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", *["CrossAttnUpBlockSpatioTemporal"] * attending),
            block_out_channels=tuple(widths), layers_per_block=layers, cross_attention_dim=token_dim,
            num_attention_heads=tuple(width // head_width for width in widths),
            addition_time_embed_dim=GROUPS, projection_class_embeddings_input_dim=3 * GROUPS)
        super().__init__(unet, codec, conditioning, LinearToken(token_dim))
        self._settings = {"widths": list(widths), "layers": layers, "head_width": head_width, "token_dim": token_dim,
                          "condition": condition, "frames": frames, "sigma_max": sigma_max, "max_side": max_side}
        self.frames, self.sigma_max, self.max_side = frames, sigma_max, max_side

    def settings(self) -> dict[str, Any]:
        codec = {"target": f"{type(self.codec).__module__}.{type(self.codec).__qualname__}",
                 "params": self.codec.settings()}
        return {**self._settings, "codec": codec}


class StableVideoDiffusion(KeyframeDiffusion):
    """SVD, repurposed as the paper does: more input channels, LoRA on its attention, everything else frozen.

    Args:
        backbone: "svd-xt", "svd-base", a repository of the hub or a folder, see `gi.diffusion.diffusers_folder.load`.
        rank, alpha, target_modules: of LoRA, see `gi.diffusion.lora.add_lora`.
        condition: see `gi.diffusion.condition.Condition`.
        dtype: of frozen weights; what is trained is in float32, the autoencoder as well.
        chunk, overlap: frames that are encoded or decoded at once, see `gi.diffusion.codec.VideoAutoencoder`.
        frames, max_side: see `KeyframeDiffusion`; None: the backbone's number of frames, and 1024.
    """

    def __init__(self, *, backbone: str = "svd-xt", rank: int = 32, alpha: float | None = None,
                 target_modules: tuple[str, ...] = lora.ATTENTION, condition: Kind = "symmetric",
                 dtype: Literal["float32", "bfloat16"] = "float32", chunk: int = 8, overlap: int = 3,
                 frames: int | None = None, max_side: int | None = None):
        _expect_clips(frames, max_side)
        parts = diffusers_folder.load(backbone, getattr(torch, dtype))
        unet, vae = parts.unet, parts.vae
        codec, conditioning = VideoAutoencoder(vae, chunk=chunk, overlap=overlap), Condition(condition)
        dimensions = unet.config.in_channels, unet.config.out_channels, unet.config.cross_attention_dim
        expected = 2 * codec.channels, codec.channels, parts.image_encoder.config.projection_dim
        if dimensions != expected:
            raise InputError(f"{backbone}: the UNet's in_channels, out_channels and cross_attention_dim are "
                             f"{dimensions}, expected {expected}, which fit its autoencoder and image encoder")
        lora.widen(unet, codec.channels + conditioning.channels(codec))
        lora.add_lora(unet, rank, alpha, target_modules)
        super().__init__(unet, codec, conditioning, ClipToken(parts.image_encoder))
        self.sigma_max, self._metadata = parts.sigma_max, parts.metadata
        self.frames = unet.config.num_frames if frames is None else frames
        self.max_side = type(self).max_side if max_side is None else max_side
        self._settings = {"backbone": backbone, "rank": rank, "alpha": alpha, "target_modules": list(target_modules),
                          "condition": condition, "dtype": dtype, "chunk": chunk, "overlap": overlap,
                          "frames": frames, "max_side": max_side}
        log.info("%s: %s of the UNet's %s parameters are trained", backbone,
                 *(f"{sum(p.numel() for p in some):,}" for some in (self.trainable_parameters(), unet.parameters())))

    def settings(self) -> dict[str, Any]:
        return self._settings

    def backbone(self) -> dict[str, Any]:
        return self._metadata

    def licence(self) -> str:
        return diffusers_folder.licence(str(self._settings["backbone"]))


def _expect_clips(frames, max_side):
    """A file from elsewhere may ask for any number."""
    expect_within(1, 1024, frames=1 if frames is None else frames)
    expect_within(8, 2**14, max_side=8 if max_side is None else max_side)
