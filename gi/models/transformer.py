"""The Transformer baseline: the two-stream model without its local stream (section 4; its code was never published).

An encoder to stride 16 gives 16 x 16 tokens for a 256 x 256 image, as many as the two-stream model has latents.
"""
from torch import Tensor, nn

from gi.errors import InputError, expect_at_least, expect_within
from gi.models.attention import Attention
from gi.models.blocks import Decoder, Encoder, FourierPositions, check_inputs, crop_like, initialise
from gi.models.keyframes import KeyframeFeatures, Keyframes


class TransformerGenerator(nn.Module):
    """`n_blocks` blocks of two attention layers; in the first `n_cross`, the first layer attends to keyframes too."""

    def __init__(self, *, ngf: int = 64, n_down: int = 4, n_blocks: int = 6, n_cross: int = 2, heads: int = 8,
                 width: int = 512):
        super().__init__()
        expect_at_least(1, heads=heads, width=width)
        expect_within(0, n_blocks, n_cross=n_cross)
        if width % heads:
            raise InputError(f"heads {heads}: expected a divisor of width {width}")
        # Widths double up to the tokens' own, or encoder and decoder would have most of the parameters.
        self.encoder = Encoder(ngf=ngf, n_down=n_down, max_channels=width)
        self.positions = FourierPositions(in_channels=self.encoder.out_channels, out_channels=width)
        self.blocks = nn.ModuleList(
            nn.ModuleList(Attention(width=width, heads=heads) for _ in range(2)) for _ in range(n_blocks))
        self.n_cross = n_cross
        self.decoder = Decoder(in_channels=width, ngf=ngf, n_down=n_down, max_channels=width)
        initialise(self)

    def forward(self, target: Tensor, sources: Tensor, flows: Tensor, flow_errors: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1]; inputs as in `TwoStreamGenerator.forward`. Flows are not used."""
        check_inputs(target, sources, flows, flow_errors)
        return self.predict(target, self.encode_keyframes(sources), flows, flow_errors)

    def encode_keyframes(self, sources: Tensor) -> Keyframes:
        """The keyframe stream of sources (B, T, 4, H, W)."""
        b, t = sources.shape[:2]
        if t == 0 or self.n_cross == 0:
            return Keyframes()
        blocks = []
        tokens = self.positions(self.encoder(sources.flatten(0, 1))).flatten(2).transpose(1, 2)
        for i, (first, second) in enumerate(self.blocks[: self.n_cross]):  # type: ignore[misc]
            tokens, own = first(tokens)
            blocks.append(KeyframeFeatures(*(x.unflatten(0, (b, t)) for x in own)))
            if i + 1 < self.n_cross:
                tokens, _ = second(tokens)
        return Keyframes(tuple(blocks))

    def predict(self, target: Tensor, keyframes: Keyframes, flows: Tensor, flow_errors: Tensor) -> Tensor:
        """Fills the target (B, 4, H, W), given what `encode_keyframes` returned. Flows are not used."""
        memory = [(features.keys.flatten(1, 2), features.values.flatten(1, 2)) for features in keyframes.blocks]
        x = self.positions(self.encoder(target))
        tokens = x.flatten(2).transpose(1, 2)
        for i, (first, second) in enumerate(self.blocks):  # type: ignore[misc]
            tokens, _ = first(tokens, memory[i] if i < len(memory) else None)
            tokens, _ = second(tokens)
        return crop_like(self.decoder(tokens.transpose(1, 2).view_as(x)), target)
