"""From images with holes to the flow and flow error the generators use (paper, section 3.3)."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gi.errors import InputError, expect_kind
from gi.flow.aligned import Aligned
from gi.flow.estimate import Estimator, ZeroFlow, to_grey
from gi.flow.inpaint import inpaint_flow
from gi.flow.keypoints import Keypoints
from gi.flow.planar import complete_planar
from gi.flow.register import View
from gi.flow.unseen import GROWTH, grow_hole, smooth_fill
from gi.flow.warp import forward_backward_error, resize, resize_flow
from gi.media.scale import scale, video_pixels
from gi.weights.files import Frozen


class Guidance(Frozen):
    """The contract of what tells a generator where keyframes show the target's pixels; a subclass writes `forward`.

    mask_images: whether the content of holes has no influence, as real use needs: there it is to be removed.
    aligns: whether its flow aligns keyframes with the target; otherwise `fit_keyframes` has nothing to judge.
    extra: names of further entries of a batch that `forward` takes by keyword, where a batch has them.
    """

    mask_images: bool = False
    aligns: bool = True
    extra: tuple[str, ...] = ()

    def forward(self, image: Tensor, mask: Tensor, sources: Tensor, source_masks: Tensor,
                **extra: Tensor) -> tuple[Tensor, Tensor]:
        """Flow (B,T,2,H,W) in pixels from the target to each keyframe, and its error (B,T,1,H,W) >= 0, both float32.

        `image` (B,3,H,W) in [0,1], `mask` (B,1,H,W) with 1 = missing; `sources` (B,T,3,H,W) and `source_masks`
        (B,T,1,H,W) likewise; T may be 0. Raises InputError if the shapes do not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(image, mask, sources, source_masks)")

    def keypoints(self, image: Tensor, mask: Tensor, sources: Tensor, source_masks: Tensor) -> list[Keypoints] | None:
        """Keypoints of targets and keyframes; arguments as in `forward`, which takes these keypoints, moved to the grid
        of its images, as `keypoints` instead of detecting them again. None: this guidance does not use keypoints.
        """
        return None


class FlowGuidance(Guidance):
    """Flow from a target to each of its keyframes, filled in the target's hole, and how far it can be trusted.

    Args:
        estimator: of optical flow, see `gi.flow.estimate`.
        resolution: images are resized to resolution x resolution for the estimation, and flow back; None: not.
        inpaint: replace the flow inside the target's hole by that around it, see `gi.flow.inpaint`.
        mask_images: keep what is in the holes of both images from the estimator, see `gi.flow.unseen`. The original
            release, and this default, lets it see the complete photographs, which in training are known; in real use
            the hole holds the object to be removed, whose motion must not guide anything.
        planar: fill the hole with the motion of the plane that the flow around it shows, if it does, see
            `gi.flow.planar`. Ours, not the paper's.
    """

    def __init__(self, *, estimator: Estimator, resolution: int | None = 256, inpaint: bool = True,
                 mask_images: bool = False, planar: bool = False):
        super().__init__()
        if resolution is not None and resolution < 8:
            raise InputError(f"resolution of FlowGuidance: expected 8 pixels or more, or null, got {resolution}")
        self.estimator = expect_kind(estimator, Estimator, "estimator of FlowGuidance")
        self.resolution, self.inpaint, self.mask_images, self.planar = resolution, inpaint, mask_images, planar
        self.aligns = not isinstance(estimator, ZeroFlow)
        self.freeze()

    @torch.no_grad()
    def forward(self, image: Tensor, mask: Tensor, sources: Tensor,  # type: ignore[override]  # has no `extra`
                source_masks: Tensor, keypoints: Sequence[Keypoints] | None = None) -> tuple[Tensor, Tensor]:
        """See `Guidance`. Without `mask_images`, the holes' content has influence. keypoints: see `keypoints`."""
        batch, frames, _, height, width = sources.shape
        if image.shape != (batch, 3, height, width):
            raise InputError(f"keyframes {tuple(sources.shape)}, expected (B, T, 3, H, W), do not fit the target "
                             f"{tuple(image.shape)}, expected (B, 3, H, W)")
        if batch * frames == 0 or not self.aligns:  # the computation would give the same
            return image.new_zeros(batch, frames, 2, height, width), image.new_zeros(batch, frames, 1, height, width)
        images = self._estimator_inputs(image, mask, sources, source_masks)
        number = torch.arange(len(images), device=image.device)
        target, source = number[:batch].repeat_interleave(frames), number[batch:]
        estimated = self.estimated(images, torch.cat([target, source]), torch.cat([source, target]), keypoints)
        views = self._views(images, torch.cat([mask, source_masks.flatten(0, 1)]), target, source)
        return self.complete(estimated.view(2, batch, frames, *estimated.shape[1:]), mask, views)

    def keypoints(self, image: Tensor, mask: Tensor, sources: Tensor, source_masks: Tensor) -> list[Keypoints] | None:
        if self.resolution is not None or not isinstance(self.estimator, Aligned):
            return None
        return self.estimator.keypoints(self._estimator_inputs(image, mask, sources, source_masks))

    def estimated(self, images: Tensor, first: Tensor, second: Tensor,
                  keypoints: Sequence[Keypoints] | None = None) -> Tensor:
        """`Estimator.between` in float32. Raises InputError for flow that is not (N,2,H,W)."""
        known: dict[str, Any] = {} if keypoints is None else {"known": keypoints}
        with torch.autocast(images.device.type, enabled=False):
            flow = self.estimator.between(images, first, second, **known)
        if flow.shape != (expected := (len(first), 2, *images.shape[-2:])):
            raise InputError(f"{type(self.estimator).__name__} gave flow {tuple(flow.shape)}, expected {expected}")
        return flow

    def _estimator_inputs(self, image, mask, sources, source_masks):
        return torch.cat([self.estimator_input(image, mask),
                          self.estimator_input(sources.flatten(0, 1), source_masks.flatten(0, 1))])

    def estimator_input(self, image: Tensor, mask: Tensor) -> Tensor:
        """What the estimator sees of images (N,3,H,W) with holes (N,1,H,W), at the size it sees them, float32."""
        image = smooth_fill(image, mask) if self.mask_images else image
        return resize(image, image.shape[-2:] if self.resolution is None else (self.resolution, self.resolution))

    def _views(self, images, holes, first, second):
        """Pairs of `images` as `complete` takes them; None where they are of no use."""
        if not (self.inpaint and self.planar and self.resolution is None and self.mask_images):
            return None
        views = list(map(View.of, to_grey(images), holes[:, 0].cpu().numpy()))
        return [(views[i], views[j]) for i, j in zip(first.tolist(), second.tolist(), strict=True)]

    def complete(self, estimated: Tensor, mask: Tensor,
                 views: Sequence[Sequence[View]] | None = None) -> tuple[Tensor, Tensor]:
        """From estimated flows (2,B,T,2,h,w), to the keyframes and back, to what `forward` returns.

        `mask` (B,1,H,W) is the target's hole, at the images' size. The second half of `forward`, for callers that
        keep estimates because they need them for several targets. `views`, B*T pairs of a target and a keyframe, make
        the flow of planes more precise.
        """
        size, full = estimated.shape[-2:], mask.shape[-2:]
        if self.mask_images:
            mask = grow_hole(mask, round(video_pixels(GROWTH, size) * scale(full, max(size))))
        flows = resize_flow(estimated.flatten(0, 2), full).unflatten(0, estimated.shape[:3])
        if self.inpaint and self.planar:
            flows = complete_planar(flows, mask, views)
        elif self.inpaint:
            # Also the backward flows are filled in the target's hole, as the original release does.
            fields = flows.transpose(0, 1)
            flows = inpaint_flow(fields.flatten(1, 3), mask).view(fields.shape).transpose(0, 1)
        forward, backward = flows
        error = forward_backward_error(forward.flatten(0, 1), backward.flatten(0, 1), estimated_at=size)
        return forward, error.unflatten(0, forward.shape[:2])


def expect_blind(guidance: Guidance, kind: type[Guidance] = Guidance) -> Guidance:
    """`guidance`, if it is of this kind and the content of holes has no influence on it; else raises InputError."""
    if not expect_kind(guidance, kind, "guidance").mask_images:
        raise InputError("guidance: sees what is in the holes; expected a FlowGuidance with mask_images: true")
    return guidance
