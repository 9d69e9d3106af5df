"""Photographs on disk, kept as they are: bit depth, channels, colour profile; folders of them, filled one by one.

`gi.media.io` reads what networks need, RGB of 8 bits. Here, known pixels must come out again as they went in.
"""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from gi.errors import InputError
from gi.media import io, mask_values
from gi.media.samples import SampleFiles


@dataclass
class Photo:
    """pixels: uint8 or uint16, (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA. profile: ICC, if they are meant by one."""

    pixels: np.ndarray
    profile: bytes | None = None


def read_photo(path: str | Path) -> Photo:
    """Reads an image as `io.native_pixels`, turned as its EXIF orientation says; RGB and RGBA of 16 bits stay so in PNG
    and TIFF files. Raises InputError as `io.read_image`.
    """
    def look(image: Image.Image) -> Photo:
        deep = image.format in ("PNG", "TIFF") and ";16" in str(image.tile) and image.mode[:1] in "RL"
        same_colours = image.mode in (*io.AS_THEY_ARE, *io.WITH_ALPHA, "P") or image.mode.startswith("I")
        profile = image.info.get("icc_profile") if same_colours else None
        pixels = pixels_of(image, str(path))  # also where it is read again below: damaged files end here
        return Photo(_read_deep(path, image, pixels) if deep else pixels, profile)

    return io.inspect_image(path, look)


def _read_deep(path, image, pixels):
    """Pixels of 16 bits a channel, of which Pillow reads only 8. `image`, `pixels`: what Pillow made of the same file.
    """
    deep = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3:
        return pixels
    deep = cv2.cvtColor(deep, cv2.COLOR_BGR2RGB if deep.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    order = Image.fromarray(np.arange(deep.shape[0] * deep.shape[1], dtype=np.int32).reshape(deep.shape[:2]))
    order.getexif()[0x0112] = image.getexif().get(0x0112, 1)
    turned = deep.reshape(-1, deep.shape[2])[np.asarray(ImageOps.exif_transpose(order))]
    for candidate in (turned, deep):  # some of OpenCV's readers apply the orientation
        if candidate.shape[:2] == pixels.shape[:2]:
            difference = (candidate[..., :3] >> 8).astype(np.int16) - pixels[..., :3]
            if np.abs(difference).max() <= 1:
                return np.ascontiguousarray(candidate)
    return pixels  # an unusual layout, which the two read differently


def write_photo(path: str | Path, pixels: np.ndarray, profile: bytes | None = None) -> None:
    """Writes what `read_photo` gives as a PNG file, completely or not at all; 16-bit colour without its profile."""
    with io.atomic_write(path) as temporary:
        if pixels.dtype == np.uint16 and pixels.ndim == 3:
            swap = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
            temporary.write_bytes(cv2.imencode(".png", cv2.cvtColor(pixels, swap))[1].tobytes())
        else:
            Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, format="PNG", icc_profile=profile)


def pixels_of(image: np.ndarray | Image.Image, name: str) -> np.ndarray:
    """An array as in `Photo`, from a PIL image or from an array that is one already; `name` is for messages."""
    if not isinstance(image, Image.Image):
        pixels = np.asarray(image)
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3) or channels not in (1, 3, 4):
            if isinstance(image, str | Path):
                raise InputError(f"{name}: is the name of a file, expected a picture such as PIL.Image.open gives")
            hint = "; of values in [0, 1], (255 * x).round().astype('uint8')" if pixels.dtype.kind == "f" else ""
            raise InputError(f"{name}: is {pixels.dtype} {pixels.shape}, expected uint8 or uint16 of shape (H, W), "
                             f"(H, W, 3) or (H, W, 4), or a PIL image{hint}")
        if pixels.size == 0:
            raise InputError(f"{name}: has no pixels, its shape is {pixels.shape}")
        return pixels
    return io.native_pixels(_turned(image, name), name)


def mask_of(mask: np.ndarray | Image.Image, name: str) -> np.ndarray:
    """`bool` (H, W), true = missing, from a PIL image, an array or a tensor, by the rule of `gi.media.mask_values`.
    Raises InputError with `name`.
    """
    return mask_values.read_one(mask_levels(mask, name), name)[0].astype(bool)


def mask_levels(mask: np.ndarray | Image.Image, name: str) -> mask_values.Levels:
    """What `mask_of` decides on."""
    if not isinstance(mask, Image.Image):
        return mask_values.levels_of_array(mask, name)
    try:
        return mask_values.levels_of_image(mask, name)
    except InputError:
        raise
    except Exception as error:  # decoding happens here at the latest
        raise InputError(f"{name}: cannot read this image: {io.reason(error)}") from error


def same_size(mask: np.ndarray, image: np.ndarray, name: str, owner: str) -> None:
    """Raises InputError, naming both sizes, unless a mask has the size of its image."""
    if mask.shape[:2] != image.shape[:2]:
        size, expected = (f"{array.shape[1]}x{array.shape[0]}" for array in (mask, image))
        turned = " when that is turned as its EXIF says" if mask.shape[:2] == image.shape[1::-1] else ""
        raise InputError(f"{name}: is {size}, expected {expected} as {owner}{turned}")


def _turned(image, name):
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # decoding happens here at the latest
        raise InputError(f"{name}: cannot read this image: {io.reason(error)}") from error


# Filling files --------------------------------------------------------------------------------------------------------

class Filled(NamedTuple):
    """The outcome for a picture: its number of keyframes, a remark on how its mask was read, a verdict on each
    keyframe.
    """

    keyframes: int
    remark: str
    verdicts: list[str]

    def __str__(self) -> str:
        guides = f"{self.keyframes} keyframe{'s' * (self.keyframes != 1)}" if self.keyframes else "no keyframes"
        return "\n".join([f"{guides}; {self.remark}", *self.verdicts])


def inpaint_file(inpainter: Callable, sample: SampleFiles, out: str | Path) -> Filled:
    """Fills one picture and writes it to `out`, a PNG file. Raises InputError naming the file that is missing, damaged
    or of another size.
    """
    if sample.problem:
        raise InputError(sample.problem)
    if Path(out).suffix.lower() != ".png":
        raise InputError(f"{out}: expected a name ending with .png; other formats would change the known pixels")
    pairs = [(sample.image, sample.mask), *sample.keyframes]
    if any(io.same_file(Path(out), path) for pair in pairs for path in pair if path is not None):
        raise InputError(f"{out}: is one of the inputs, which would be lost")
    photos, masks, remarks = [], [], []
    for path, mask_path in pairs:
        photos.append(read_photo(path))
        mask, remark = (None, None) if mask_path is None else io.read_mask_with_remark(mask_path)
        masks.append(mask)
        remarks.append(remark)
        if mask is not None:
            same_size(mask, photos[-1].pixels, str(mask_path), f"its image {path}")
    image, *keyframes = (photo.pixels for photo in photos)
    try:
        filled = inpainter(image, masks[0], keyframes, masks[1:])
    except InputError as error:
        raise InputError(f"{sample.image}: {error}") from error
    write_photo(out, filled, photos[0].profile)
    hidden = [f"; {path}: {remark}" for (_, path), mask, remark in zip(pairs, masks, remarks, strict=True)
              if path != sample.mask and mask is not None and mask.all()]
    unchanged = "" if masks[0].any() else "; picture unchanged"
    verdicts = zip(sample.keyframes, inpainter.report, strict=False)  # without alignment, there are none
    return Filled(len(keyframes), f"{sample.mask}: {remarks[0]}{unchanged}{''.join(hidden)}",
                  [f"{path}: {verdict}" for (path, _), verdict in verdicts])


def inpaint_samples(inpainter: Callable, samples: Sequence[SampleFiles],
                    out: str | Path) -> Iterator[tuple[str | None, Filled | None]]:
    """Fills samples one by one into `out/X.png` and yields (problem, outcome) after each, one of them None."""
    for sample in samples:
        try:
            yield None, inpaint_file(inpainter, sample, result_path(sample, out))
        except InputError as error:
            yield " ".join(str(error).split()), None


def result_path(sample: SampleFiles, out: str | Path) -> Path:
    """Where `inpaint_samples` writes the result of a sample."""
    return Path(out) / f"{sample.name}.png"
