"""Baselines without a network, which a guided network has to beat.

Images (B,3,H,W) in [0,1], masks (B,1,H,W) with 1 = missing. Known pixels of a result are those of the image, bit for
bit, and no result depends on what an image or a keyframe holds inside its hole.
"""
import cv2
import numpy as np
import torch
from torch import Tensor

from gi.compositing import composite, pixels_of_tensor, tensor_of_pixels
from gi.flow.align import align_keyframes


@torch.no_grad()
def copy_keyframe(image: Tensor, mask: Tensor, sources: Tensor, source_masks: Tensor, flows: Tensor,
                  errors: Tensor) -> Tensor:
    """Copies into each hole pixel the colour that the flow leads to, then fills the rest with `opencv_inpaint`.

    Where several of the keyframes `sources` (B,T,3,H,W), T >= 0, with `source_masks` (B,T,1,H,W), show a pixel (see
    `align`), the one with the smallest of the flow's `errors` (B,T,1,H,W) is taken, the first one of equals. `flows`
    (B,T,2,H,W) lead from the target to each keyframe, in pixels. Returns (B,3,H,W) float32.
    """
    colours, visible = align_keyframes(sources, source_masks, flows)
    image, mask = image.float(), (mask > 0.5).float()
    filled, missing = image, mask
    if sources.shape[1]:
        cost = torch.where(visible > 0.5, errors.float(), torch.inf)
        best = cost.argmin(dim=1, keepdim=True)
        chosen = colours.gather(1, best.expand(-1, -1, 3, -1, -1))[:, 0]
        copied = mask * visible.amax(dim=1)
        filled, missing = composite(chosen, image, copied), mask - copied
    return composite(opencv_inpaint(filled, missing), filled, missing)


def opencv_inpaint(image: Tensor, mask: Tensor) -> Tensor:
    """`cv2.inpaint` (Telea 2004), in 8 bits: (B,3,H,W) float32. An image without any known pixel becomes grey."""
    image, mask = image.float(), (mask > 0.5).float()
    filled = np.ascontiguousarray(pixels_of_tensor(composite(torch.zeros_like(image), image, mask)))
    for i, hole in enumerate(mask[:, 0].byte().cpu().numpy()):
        if hole.all():
            filled[i] = 128
        elif hole.any():
            filled[i] = cv2.inpaint(filled[i], hole, 3, cv2.INPAINT_TELEA)  # 3 pixels around
    return composite(tensor_of_pixels(filled, image.device), image, mask)
