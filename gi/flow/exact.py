"""Ground-truth flow of synthetic pairs, with noise that resembles an estimator's errors. Ours, not the paper's.

Training then needs no estimator, and keyframes are of use also where motion is too large for a fast estimator. In
evaluation, without ground truth, flow is estimated as usual.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gi.errors import InputError, expect_at_least, expect_within
from gi.flow.estimate import Estimator
from gi.flow.guidance import FlowGuidance
from gi.flow.keypoints import Keypoints
from gi.flow.unseen import smooth_fill
from gi.media.scale import PHOTO_SIDE, scale


@dataclass(frozen=True, kw_only=True)
class FlowNoise:
    """Simulated estimator errors, drawn independently for every frame and direction; lengths in pixels at 256 x 256.

    Flow is off everywhere by a smooth field, whose standard deviation is drawn between 0 and `drift`. Near holes and
    pixels without true flow, averaged over windows of side `reach`, it grows by a factor of up to 1 + `near_holes`. On
    average `blobs` round regions, of radius up to `blob_size`, are mismatched by a vector with standard deviation
    `blob`. With probability `failures`, a whole flow is off by a smooth field with standard deviation `failure`.
    """

    drift: float = 1.0
    near_holes: float = 6.0
    reach: float = 24.0
    blobs: float = 1.5
    blob_size: float = 24.0
    blob: float = 16.0
    failures: float = 0.15
    failure: float = 24.0

    def __post_init__(self):
        expect_within(0, 1, failures=self.failures)
        expect_at_least(0, **vars(self))

    def __call__(self, unsure: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Errors (N,2,H,W) in pixels; `unsure` (N,1,H,W) is 1 in holes and where there is no true flow.

        There is one generator, on the CPU, for each sample; every sample has the same number of consecutive maps. All
        maps are processed at once, as a GPU needs it, yet a sample's errors do not depend on the rest of the batch.
        """
        size, device = unsure.shape[-2:], unsure.device
        each, unit = len(unsure) // len(generators), scale(size, PHOTO_SIDE)

        def drawn(draw, *shape):
            return torch.cat([draw((each, *shape), generator=generator) for generator in generators]).to(device)

        def uniform(*shape):
            return drawn(torch.rand, *shape)

        def field(cells):
            return F.interpolate(drawn(torch.randn, 2, cells, cells), size=size, mode="bicubic", align_corners=True)

        drift = self.drift * uniform(1, 1, 1) * (field(4) + 0.5 * field(12))
        window = 2 * round(self.reach * unit / 2) + 1
        nearness = unsure  # averaged over squares, by rows, then by columns, which is faster for large squares
        for square, padding in ((window, 1), (window // 2, 0)), ((1, window), (0, window // 2)):
            nearness = F.avg_pool2d(nearness, square, stride=1, padding=padding, count_include_pad=False)
        error = drift * (1 + self.near_holes * nearness)

        y, x = (torch.linspace(0, length - 1, length, device=device) for length in size)
        for _ in range(round(2 * self.blobs)):  # each of them present with a probability of 1/2
            centre = uniform(2, 1, 1) * torch.tensor(size, device=device).view(2, 1, 1)
            radius = (0.2 + 0.8 * uniform(1, 1)) * max(1.0, self.blob_size * unit)
            squared = (y[:, None] - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2
            region = (uniform(1, 1) < 0.5) * torch.sigmoid(4 * (1 - squared / radius**2))
            error = error + self.blob * region[:, None] * drawn(torch.randn, 2, 1, 1)

        failed = uniform(1, 1, 1) < self.failures
        return unit * torch.where(failed, error + self.failure * field(4), error)


class ExactGuidance(FlowGuidance):
    """FlowGuidance that takes a batch's exact flow, if it has any, with noise instead of estimating flow.

    The rest is as with estimated flow: it is filled in the target's hole, and its error is computed from both
    directions. Samples of `GuidedPairs` with `exact_flow: true`.

    Args:
        estimator: for batches without exact flow, and for the other samples if `share` is below 1.
        noise: what `FlowNoise` takes; none gives the true flow, filled smoothly where there is none.
        share: of the samples, drawn by chance, that take their exact flow.
        resolution, inpaint, mask_images, planar: see FlowGuidance; exact flow is always at the images' own size.
    """

    extra = ("flows", "flows_valid", "seed")

    def __init__(self, *, estimator: Estimator, noise: FlowNoise | None = None, share: float = 1.0,
                 resolution: int | None = 256, inpaint: bool = True, mask_images: bool = False, planar: bool = False):
        super().__init__(estimator=estimator, resolution=resolution, inpaint=inpaint, mask_images=mask_images,
                         planar=planar)
        expect_within(0, 1, share=share)
        self.noise, self.share = noise, share

    @torch.no_grad()
    def forward(self, image: Tensor, mask: Tensor, sources: Tensor,  # type: ignore[override]  # names its `extra`
                source_masks: Tensor, flows: Tensor | None = None,
                flows_valid: Tensor | None = None, seed: Tensor | None = None,
                keypoints: Sequence[Keypoints] | None = None) -> tuple[Tensor, Tensor]:
        """As FlowGuidance. `flows` (B,2,T,2,H,W), `flows_valid` (B,2,T,1,H,W), `seed` (B): see `GuidedPairs`."""
        if flows is None or sources.shape[0] * sources.shape[1] == 0:
            return super().forward(image, mask, sources, source_masks, keypoints)
        if flows.shape != (len(sources), 2, sources.shape[1], 2, *image.shape[-2:]):
            raise InputError(f"exact flows {tuple(flows.shape)}, expected (B, 2, T, 2, H, W), do not fit the keyframes "
                             f"{tuple(sources.shape)}")
        generators = [torch.Generator().manual_seed(int(number)) for number in seed]
        estimate = torch.tensor([float(torch.rand((), generator=g)) >= self.share for g in generators])
        flow, error = self.complete(self._noisy(flows, flows_valid, mask, source_masks, generators), mask)
        if estimate.any():
            some = estimate.to(flow.device)
            flow[some], error[some] = super().forward(image[some], mask[some], sources[some], source_masks[some])
        return flow, error

    def _noisy(self, flows, valid, mask, source_masks, generators):
        """Flows (2,B,T,2,H,W), filled smoothly where they are not valid, with errors."""
        shape, valid = flows.shape[:3], valid.flatten(0, 2).float()
        flows = smooth_fill(flows.flatten(0, 2).float(), 1 - valid)
        if self.noise is not None:
            holes = torch.stack([mask[:, None].expand_as(source_masks), source_masks], dim=1)  # where each flow starts
            flows = flows + self.noise(torch.maximum(holes.flatten(0, 2), 1 - valid), generators)
        return flows.unflatten(0, shape).transpose(0, 1)
