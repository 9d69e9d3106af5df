"""How the network is conditioned on known and missing pixels: latents that are concatenated with the noisy ones."""
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gi.diffusion.codec import Codec
from gi.errors import InputError

Kind = Literal["symmetric", "downsampled"]


class Condition:
    """z_c of each frame, from its pixels and its hole.

    kind: "symmetric": the frame with a black and with a white hole, both encoded. Where both agree, pixels are known;
    no mask has to be made smaller. "downsampled": the frame with a black hole, and the mask at the latents' size, the
    nearest pixel's value: what the paper compares with (its figure 2a).
    """

    def __init__(self, kind: Kind = "symmetric"):
        if kind not in ("symmetric", "downsampled"):
            raise InputError(f"condition: expected symmetric or downsampled, got {kind!r}")
        self.kind: Kind = kind

    def channels(self, codec: Codec) -> int:
        """Of z_c."""
        return 2 * codec.channels if self.kind == "symmetric" else codec.channels + 1

    def __call__(self, pixels: Tensor, masks: Tensor, codec: Codec) -> Tensor:
        """(B, F, channels, h, w) of pixels (B, F, 3, H, W) in [0, 1] and masks (B, F, 1, H, W), 1 = missing.

        The pixels of the hole have no influence.
        """
        black = pixels * (1 - masks)
        known = codec.encode(black)
        if self.kind == "symmetric":
            return torch.cat([known, codec.encode(black + masks)], dim=2)
        mask = F.interpolate(masks.flatten(0, 1).to(known.dtype), known.shape[-2:])
        return torch.cat([known, mask.unflatten(0, masks.shape[:2])], dim=2)
