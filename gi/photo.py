"""Inpainting one's own pictures: arrays or PIL images of any size in, a picture of the same size out.

    from gi import Inpainter
    inpainter = Inpainter.from_checkpoint("logs/2026-01-31T12-00-00_ours/checkpoints/last.ckpt")
    result = inpainter(image, mask, keyframes=[other_view])

The networks know nothing of files, sizes and bit depths. `gi.media.photos` does the same for files and folders.
"""
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn

from gi.compositing import masked
from gi.config.device import find_device
from gi.errors import InputError, expect_at_least, expect_finite, memory_named
from gi.flow.agreement import Fitted, Verdict, fit_keyframes
from gi.flow.guidance import Guidance, expect_blind
from gi.flow.parts import Parts
from gi.media.crop import MIN_SIDE, context_box, fit_known, limited, resize
from gi.media.io import to_rgb
from gi.media.photos import mask_of, pixels_of, same_size
from gi.models.fold import prepare_for_inference
from gi.weights.pretrained import Pretrained, load_trained


class Inpainter(Pretrained):
    """Fills the hole of a picture, guided by any number of keyframes: other pictures of the same scene, or none.

    Known pixels of the result are the input's, bit for bit, at its full size. Nothing in the holes, of the picture or
    of the keyframes, has any influence, as what is there is to be removed.

    The network sees a square around the hole, twice as long as the hole and at least `max_side` (as much of it as the
    picture has), reduced to `max_side` where it is longer: holes of more than half of `max_side` become softer than
    their surroundings. Each keyframe is cut out where it shows the same part of the scene (`gi.flow.parts`).

    Args:
        generator: any family, called as generator(target, sources, flows, flow_errors).
        guidance: one that is blind to the holes, such as a FlowGuidance with `mask_images`.
        device: "auto" takes a CUDA GPU, else Apple's, else the CPU; or what torch.device takes.
        max_side: largest side of the network's input in pixels. The networks are trained at 256.
    """

    def __init__(self, *, generator: nn.Module, guidance: Guidance, device: str | torch.device = "auto",
                 max_side: int = 512):
        expect_at_least(MIN_SIDE, max_side=max_side)
        self.device = find_device(device)
        self.generator = prepare_for_inference(generator).to(self.device)
        self.guidance = expect_blind(guidance).to(self.device)
        self.max_side = max_side
        self.report: list[Verdict] = []

    @classmethod
    def from_checkpoint(cls, checkpoint: str | Path | None = None, *, config: str | Path | None = None,
                        device: str | torch.device = "auto", flow: str = "config", max_side: int = 512,
                        overrides: Sequence[str] = ()) -> "Inpainter":
        """An Inpainter with the generator of a checkpoint, ours or the original release's; by default the small bundled
        one.

        config: the network's YAML; without it, the checkpoint's own (`checkpoint_config`). flow: one of `FLOWS`;
        "config" takes what the network was trained with. overrides: "key.path=value" on top of the config. Raises
        InputError naming the file or key, if something is missing or does not fit.
        """
        find_device(device)  # before anything slow
        trained = load_trained(checkpoint, config=config, flow=flow, overrides=overrides)
        inpainter = cls(generator=trained.generator, guidance=trained.guidance, device=device, max_side=max_side)
        inpainter.trained = trained
        return inpainter

    def __call__(self, image: np.ndarray | Image.Image, mask: np.ndarray | Image.Image,
                 keyframes: Sequence[np.ndarray | Image.Image] | None = None,
                 keyframe_masks: Sequence[np.ndarray | Image.Image | None] | None = None, *,
                 return_details: bool = False) -> np.ndarray | tuple[np.ndarray, dict]:
        """The picture with its hole filled: an array of the image's shape and type, uint8 (H, W, 3) for RGB.

        image: RGB (H, W, 3), RGBA (H, W, 4) or grey (H, W), uint8 or uint16, or a PIL image (its EXIF orientation is
        applied; palettes, CMYK and the like become 8-bit RGB). Alpha stays where pixels are known and is opaque in the
        hole. mask: (H, W), see `mask_of`. keyframes: of any size, resized to fit into the image's, not stretched.
        keyframe_masks: one per keyframe, of its size; None for a keyframe (or for all) says that all of it is known.

        Keyframes are given the image's exposure, and judged by what both show: `report` then has a verdict for each,
        whose `str` is "used", "used in part …" or "could not be aligned, ignored". What is ignored has no influence.

        With `return_details` also a dictionary: "prediction" float32 (h, w, 3) in [0, 1] of the network, "box" (top,
        left, bottom, right) that it belongs to, "flows" (T, 2, h, w) in pixels of it and "flow_errors" (T, 1, h, w).

        Raises InputError if sizes do not fit, naming the argument; if the target and all keyframes are missing as a
        whole; if memory runs out; if the network's result is not finite.
        """
        image, mask = pixels_of(image, "image"), mask_of(mask, "mask")
        same_size(mask, image, "mask", "its image")
        frames = _keyframes(keyframes, keyframe_masks, image.shape[:2])
        if mask.all() and all(missing.all() for _, missing in frames):
            raise InputError("mask: everything is missing, and no keyframe shows anything")
        if mask.all() and self.guidance.aligns:
            raise InputError("mask: everything is missing, so there is nothing that keyframes could be aligned with")
        self.report = []
        if not mask.any() and not return_details:
            return image.copy()
        enough = memory_named(f"not enough memory on {self.device}: lower max_side, which is {self.max_side}")
        with torch.inference_mode(), enough:
            details = self._predict(image, mask, frames)
        # Not gi.compositing, which is for what networks see: this keeps depth and channels of any input.
        result = image.copy()
        box, hole = details["box"], details["box"].of(mask)
        box.of(result)[hole] = _like(resize(details["prediction"], box.size, cv2.INTER_CUBIC)[hole], image)
        return (result, details) if return_details else result

    def _predict(self, image, mask, frames):
        box = context_box(mask, self.max_side)
        size = limited(box.size, self.max_side)
        views, flows, errors = Parts([(image, mask), *frames], box, size, self.guidance, self.device).guided()
        target, target_mask = views[:2]
        fitted = Fitted(*views[2:], flows, errors, [])
        if self.guidance.aligns:
            fitted = fit_keyframes(*views, flows, errors)
            self.report = fitted.verdicts
        prediction = self.generator(masked(target, target_mask), masked(fitted.sources, fitted.source_masks),
                                    fitted.flows, fitted.errors)
        prediction = expect_finite(prediction.float())
        height, width = size
        prediction, flows, errors = (values[0, ..., :height, :width].cpu().numpy()
                                     for values in (prediction, flows, errors))
        return {"prediction": prediction.transpose(1, 2, 0), "box": box, "flows": flows, "flow_errors": errors}


# Arrays and tensors ---------------------------------------------------------------------------------------------------

def _keyframes(keyframes, masks, size):
    """[(pixels (H, W, C), mask (H, W))] of the image's size."""
    keyframes = _listed("keyframes", [] if keyframes is None else keyframes, 4)
    masks = [None] * len(keyframes) if masks is None else _listed("keyframe_masks", masks, 3)
    if len(masks) != len(keyframes):
        raise InputError(f"keyframe_masks: {len(masks)} for {len(keyframes)} keyframes, expected one each, or None")
    frames = []
    for number, (keyframe, mask) in enumerate(zip(keyframes, masks, strict=True), start=1):
        pixels = to_rgb(pixels_of(keyframe, f"keyframe {number}"))
        name = f"mask of keyframe {number}"
        mask = np.zeros(pixels.shape[:2], bool) if mask is None else mask_of(mask, name)
        same_size(mask, pixels, name, "its keyframe")
        frames.append(fit_known(pixels, mask, size))
    return frames


def _listed(name, items, dimensions):
    """`items` as a list; an array with one dimension more than a picture is a list of pictures."""
    single = isinstance(items, (Image.Image, str, Path)) or getattr(items, "ndim", dimensions) != dimensions
    if single or not hasattr(items, "__iter__"):
        description = f"one array {tuple(items.shape)}" if hasattr(items, "shape") else f"a {type(items).__name__}"
        raise InputError(f"{name}: is {description}, expected a list of them, one for each keyframe")
    return list(items)


def _like(rgb, image):
    """Predicted pixels (N, 3), clipped to [0, 1], with the channels and the type of `image`: (N,) or (N, C)."""
    values = rgb.clip(0, 1)
    if image.ndim == 2 or image.shape[2] == 1:
        values = values @ np.array([0.299, 0.587, 0.114], np.float32)
        values = values if image.ndim == 2 else values[:, None]
    elif image.shape[2] == 4:
        values = np.concatenate([values, np.ones_like(values[:, :1])], axis=1)
    return np.round(values * np.iinfo(image.dtype).max).astype(image.dtype)
