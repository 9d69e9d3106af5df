"""Photographs on disk, kept as they are: bit depth, channels, colour profile; folders of them, filled one by one.

`gi.media.io` reads what networks need, RGB of 8 bits. Here, known pixels must come out again as they went in.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from gi.errors import InputError
from gi.media import io
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

    return io.look_at(path, look)


def _read_deep(path, image, pixels):
    """16 bits a channel, of which Pillow reads 8. `image`, `pixels`: what Pillow made of the same file."""
    deep = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3:
        return pixels
    deep = cv2.cvtColor(deep, cv2.COLOR_BGR2RGB if deep.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    order = Image.fromarray(np.arange(deep.shape[0] * deep.shape[1], dtype=np.int32).reshape(deep.shape[:2]))
    order.getexif()[0x0112] = image.getexif().get(0x0112, 1)
    turned = deep.reshape(-1, deep.shape[2])[np.asarray(ImageOps.exif_transpose(order))]
    for candidate in (turned, deep):  # some of OpenCV's readers turn by themselves
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
            raise InputError(f"{name}: is {pixels.dtype} {pixels.shape}, expected uint8 or uint16 of shape (H, W), "
                             "(H, W, 3) or (H, W, 4), or a PIL image")
        if pixels.size == 0:
            raise InputError(f"{name}: has no pixels, its shape is {pixels.shape}")
        return pixels
    return io.native_pixels(_turned(image, name), name)


def mask_of(mask: np.ndarray | Image.Image, name: str) -> np.ndarray:
    """bool (H, W), true = missing, from a PIL image or an array (H, W) or (H, W, channels), alpha ignored.

    Values of bool and up to 1 are halved at 0.5, others at half of the range: 128 for 8 bits, 32768 for uint16.
    """
    if isinstance(mask, Image.Image):
        mask = _turned(mask, name)
        mask = np.asarray(mask if mask.mode in ("1", "L") or mask.mode.startswith("I") else mask.convert("L"))
        mask = mask if mask.dtype in (np.uint8, bool) else mask.astype(np.uint16)
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[2] in (1, 2, 3, 4):
        mask = mask[..., :3].mean(axis=2) if mask.shape[2] > 2 else mask[..., 0]
    if mask.ndim != 2 or mask.dtype.kind not in "buif":
        raise InputError(f"{name}: is {mask.dtype} {mask.shape}, expected numbers of shape (H, W), or a PIL image")
    if mask.size and not (mask.min() >= 0):
        raise InputError(f"{name}: has values below 0 or nan, expected 0 (known) to 1 or 255 (missing)")
    top = mask.max(initial=0)
    return mask > 0 if mask.dtype == bool else mask >= (0.5 if top <= 1 else 32768 if mask.dtype == np.uint16 else 128)


def same_size(mask: np.ndarray, image: np.ndarray, name: str, owner: str) -> None:
    """Raises InputError, naming both sizes, unless a mask has the size of its image."""
    if mask.shape[:2] != image.shape[:2]:
        size, expected = (f"{array.shape[1]}x{array.shape[0]}" for array in (mask, image))
        raise InputError(f"{name}: is {size}, expected {expected} as {owner}")


def _turned(image, name):
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # decoding happens here at the latest
        raise InputError(f"{name}: cannot read this image: {io.reason(error)}") from error


# Filling files --------------------------------------------------------------------------------------------------------

def inpaint_file(inpainter, sample: SampleFiles, out: str | Path) -> str | None:
    """Fills one picture and writes it to `out`, a PNG file. Returns remarks for the user, a line each, if there are
    any: what became of each keyframe. Raises InputError naming the file that is missing, damaged or of another size.
    """
    if sample.problem:
        raise InputError(sample.problem)
    if Path(out).suffix.lower() != ".png":
        raise InputError(f"{out}: expected a name ending with .png; other formats would change the known pixels")
    pairs = [(sample.image, sample.mask), *sample.keyframes]
    inputs = [path for pair in pairs for path in pair if path is not None and path.exists()]
    if Path(out).exists() and any(Path(out).samefile(path) for path in inputs):
        raise InputError(f"{out}: is one of the inputs, which would be lost")
    photos, masks = [], []
    for path, mask_path in pairs:
        photos.append(read_photo(path))
        masks.append(None if mask_path is None else io.read_mask(mask_path).astype(bool))
        if mask_path is not None:
            same_size(masks[-1], photos[-1].pixels, str(mask_path), f"its image {path}")
    image, *keyframes = (photo.pixels for photo in photos)
    write_photo(out, inpainter(image, masks[0], keyframes, masks[1:]), photos[0].profile)
    if not masks[0].any():
        return f"{sample.mask}: nothing is missing (values from 128 on would be); picture unchanged"
    verdicts = zip(sample.keyframes, inpainter.report, strict=False)  # without alignment, there are none
    return "\n".join(f"{path}: {verdict}" for (path, _), verdict in verdicts) or None


def inpaint_samples(inpainter, samples: Sequence[SampleFiles],
                    out: str | Path) -> Iterator[tuple[str | None, str | None]]:
    """Fills samples one by one into `out/X.png` and yields (problem, remark) after each, also a bad one."""
    for sample in samples:
        try:
            yield None, inpaint_file(inpainter, sample, result_path(sample, out))
        except InputError as error:
            yield " ".join(str(error).split()), None


def result_path(sample: SampleFiles, out: str | Path) -> Path:
    return Path(out) / f"{sample.name}.png"
