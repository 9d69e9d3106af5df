"""The networks that a configuration can name: Stable Video Diffusion with LoRA, and a small one made from nothing."""
from typing import Any

from gi.diffusion.codec import Codec, PixelShuffle
from gi.diffusion.condition import Condition, Kind
from gi.diffusion.extra import extra
from gi.diffusion.network import KeyframeDiffusion
from gi.diffusion.token import LinearToken
from gi.errors import InputError

GROUPS = 32  # of the UNet's GroupNorms, which divide its widths


class SmallDiffusion(KeyframeDiffusion):
    """The same UNet, small, all of it trained, without files from elsewhere.

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

    def __init__(self, *, widths: tuple[int, ...] = (32, 64), layers: int = 1, head_width: int = 32, token_dim: int = 32,
                 codec: Codec | None = None, condition: Kind = "symmetric", frames: int = 8, sigma_max: float = 80.0,
                 max_side: int = 128):
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
