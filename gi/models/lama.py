"""LaMa (Suvorov et al. 2021): the single-image baseline, an encoder, FFC residual blocks and a decoder."""
from torch import Tensor, nn

from gi.models.blocks import Decoder, Encoder, check_inputs, crop_like
from gi.models.ffc import ffc_block


class LaMaGenerator(nn.Module):
    """Inpaints from the target alone; keyframes are accepted and ignored, so that every family has one signature.

    LaMa's last downsampling layer is an FFC layer without global input, which is one convolution: the encoder is that
    of the other families.
    """

    def __init__(self, *, ngf: int = 64, n_down: int = 3, n_blocks: int = 6, ffc_share: float = 0.75):
        super().__init__()
        self.encoder = Encoder(ngf=ngf, n_down=n_down)
        channels = self.encoder.out_channels
        self.blocks = nn.ModuleList(ffc_block(channels, ffc_share) for _ in range(n_blocks))
        self.decoder = Decoder(in_channels=channels, ngf=ngf, n_down=n_down)

    def forward(self, target: Tensor, sources: Tensor, flows: Tensor, flow_errors: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1]; inputs as in `TwoStreamGenerator.forward`."""
        check_inputs(target, sources, flows, flow_errors)
        x = self.encoder(target)
        for block in self.blocks:
            x = block(x)
        return crop_like(self.decoder(x), target)
