"""Images, masks and file lists on disk. Files may come from anywhere, so everything read here is treated as hostile.

Nothing here needs torch. Video files are read by `gi.media.files`.
"""
import contextlib
import hashlib
import os
import secrets
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from gi.errors import InputError
from gi.media import mask_values
from gi.media.jpeg_scans import check_scans

# Suffixes of images, wherever a folder is listed: all that Pillow has for the formats below.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
            ".pnm", ".gif")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts")
# Pillow also knows formats that start external programs (EPS) or fetch other files; these are enough for photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
MAX_PIXELS = 2**28
AS_THEY_ARE = ("L", "RGB", "RGBA")
WITH_ALPHA = ("LA", "PA", "La", "RGBa")
_ORIENTED = {"exif", "XML:com.adobe.xmp", "xmp", "Raw profile type exif"}  # PNG texts that may hold an orientation
T = TypeVar("T")


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image as RGB, uint8 (H, W, 3).

    The EXIF orientation is applied. Grey, palette, CMYK and 16-bit images are converted; alpha is dropped, nothing is
    composited. Of an animation, the first frame is read.

    Raises InputError, naming the file, if it is missing, not an image, damaged, or before anything is decoded if it has
    more than `MAX_PIXELS` pixels by its header, or a JPEG more than `scans.MOST` scans.
    """
    def look(image: Image.Image) -> np.ndarray:
        ImageOps.exif_transpose(image, in_place=True)  # without in_place it would copy every image
        pixels = native_pixels(image, str(path))
        if pixels.dtype == np.uint16:  # in integers of one channel: floats of three would take 24 bytes a pixel
            pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return to_rgb(pixels)

    return inspect_image(path, look)


def read_mask(path: str | Path) -> np.ndarray:
    """uint8 (H, W), 1 = missing, by the rule of `gi.media.mask_values`. Raises InputError as `read_image`."""
    return read_mask_with_remark(path)[0]


def read_mask_with_remark(path: str | Path) -> tuple[np.ndarray, str]:
    """As `read_mask`, and a remark on what was read, "12 % missing, labels 1 and 2"."""
    return mask_values.read_one(inspect_image(path, mask_values.levels_of_image), str(path))


def read_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image as `read_image` gives it, from its header alone. Raises InputError as that does."""
    def look(image: Image.Image) -> tuple[int, int]:
        # Pillow may have swapped the size of a TIFF already.
        stored = (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImageFile) else image.size
        # Pillow decodes a whole PNG to look for an orientation, which few have, and none after its pixels.
        may_be_oriented = image.format != "PNG" or not _ORIENTED.isdisjoint(image.info)
        return stored[::-1] if may_be_oriented and image.getexif().get(0x0112) in (5, 6, 7, 8) else stored

    return inspect_image(path, look)


def inspect_image(path: str | Path, look: Callable[[Image.Image], T]) -> T:
    """What `look` makes of the Pillow image, not decoded yet. Raises InputError as `read_image`, for any error."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would block for ever
            raise InputError(f"{path}: is not a file, expected an image")
        with _OUR_RULES, Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width}x{image.height}"
                raise InputError(f"{path}: {size} is more than the allowed {MAX_PIXELS} pixels")
            if isinstance(image, JpegImageFile):
                check_scans(image, path)
            return look(image)
    except InputError:
        raise
    except Exception as error:  # a damaged file can make the decoders raise anything
        raise InputError(f"{path}: cannot read this image: {reason(error)}") from error


class _OurRules:
    """Pillow's limit and Python's warnings are global to the process: the first thread that reads an image changes
    them, the last one to finish restores them.
    """

    def __init__(self):
        self._lock, self._readers, self._before = threading.Lock(), 0, contextlib.ExitStack()

    def __enter__(self):
        with self._lock:
            self._readers += 1
            if self._readers == 1:
                # Pillow refuses above twice its own limit while opening, which would make ours ineffective.
                self._before.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
                Image.MAX_IMAGE_PIXELS = MAX_PIXELS
                self._before.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")  # harmless oddities of single files; real damage raises

    def __exit__(self, *exception):
        with self._lock:
            self._readers -= 1
            if not self._readers:
                self._before.close()


_OUR_RULES = _OurRules()


def native_pixels(image: Image.Image, name: str) -> np.ndarray:
    """A PIL image's pixels with its own depth and channels: uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4).

    Grey of 8 and 16 bits, RGB and RGBA stay as they are; grey with alpha becomes RGBA; palettes, CMYK and other colour
    spaces become RGB (RGBA if transparent) of 8 bits. Raises InputError, with `name`, for other depths.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels = np.asarray(image)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise InputError(f"{name}: grey values from {pixels.min()} to {pixels.max()}, expected 8 or 16 bits")
        return pixels.astype(np.uint16, copy=False)
    if image.mode == "F":
        raise InputError(f"{name}: pixels are floating point numbers, expected 8 or 16 bits")
    if image.mode in WITH_ALPHA or "transparency" in image.info:  # a palette's, or one value or colour
        image = image.convert("RGBA")
    elif image.mode not in AS_THEY_ARE:
        image = image.convert("L" if image.mode == "1" else "RGB")
    return np.asarray(image)


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) -> (H, W, 3) of the same type, without alpha."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes uint8 (H, W, 3) or (H, W) as a PNG file, completely or not at all. Raises InputError for other arrays."""
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise InputError(f"{path}: cannot write {image.dtype} {image.shape}, expected uint8 (H, W, 3) or (H, W)")
    with atomic_write(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary, format="PNG")


@contextlib.contextmanager
def atomic_write(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Gives a temporary name in the folder of `path` (made if missing); on leaving, that file becomes `path`.

    After an error the temporary file is gone and whatever was at `path` is untouched. With `durable` even a power
    failure leaves either the old or the new file. The temporary name is hidden and keeps the suffix. Raises OSError,
    naming `path`, if its folder cannot be made or written.
    """
    path = Path(path)
    temporary = hidden_name(path, f".{secrets.token_hex(4)}.tmp{path.suffix}", path.stem)
    with errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
    try:
        yield temporary
        if temporary.stat().st_mode != mode:  # a library has replaced it by a file that only its owner may read
            with contextlib.suppress(OSError):
                temporary.chmod(mode)
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable and os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def errors_named(path: str | Path) -> Iterator[None]:
    """OSErrors inside name `path`, as the user knows it, instead of a hidden name. Raises them."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error


def same_file(path: Path, other: Path) -> bool:
    """Whether both exist and are one file, by whatever names and links."""
    return path.exists() and other.exists() and path.samefile(other)


def hidden_name(path: Path, ending: str, stem: str | None = None) -> Path:
    """A hidden name beside `path`, for its temporary files: a dot, its name (or `stem`) and `ending`.

    File systems limit names in bytes, some to 143. So this one is never longer than the name of `path`, or than 64
    bytes if that is shorter; a name that is cut gets a checksum of the whole name.
    """
    stem = path.name if stem is None else stem
    room = max(64, len(os.fsencode(path.name))) - len(os.fsencode(ending)) - 1
    if len(os.fsencode(stem)) > room:
        checksum = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
        stem = os.fsencode(stem)[: max(0, room - 9)].decode(errors="ignore") + f".{checksum}"  # no half characters
    return path.with_name(f".{stem}{ending}")


def list_images(root: str | Path) -> list[str]:
    """Paths, relative to `root` and sorted, of all images in a folder and the folders below it, told by their suffix.

    Hidden files and what is no file, such as a pipe or a link to nothing, are left out, links to folders not followed.
    Raises InputError if there is no such folder or no image.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder, expected one with images")
    images, folders = [], [str(root)]
    for folder in folders:  # grows on the way
        with contextlib.suppress(OSError), os.scandir(folder) as items:
            for item in items:  # mostly know their kind without another system call
                if item.name.startswith("."):
                    continue
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.path)
                elif item.name.lower().endswith(SUFFIXES) and (
                        item.is_file(follow_symlinks=False) or os.path.isfile(item)):  # which raises for no broken link
                    images.append(Path(item.path).relative_to(root).as_posix())
    if not images:
        raise InputError(f"{root}: no image in this folder, expected files ending with {', '.join(SUFFIXES)}")
    return sorted(images)


def read_list(path: str | Path) -> list[str]:
    """Entries of a list file: one relative path a line; empty lines and lines starting with # are ignored. Windows may
    have written it: with a byte order mark, its line ends, and backslashes between folders, which become slashes.

    Raises InputError, naming the line, if it is absolute, climbs out with '..' or repeats another one; if the list is
    missing, not text, or empty. Links are followed only when an entry is opened: see `resolve_inside`.
    """
    try:
        text = Path(path).read_bytes()
        lines = text.decode("utf-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read this list: {reason(error)}") from error
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        entry = line.strip().replace("\\", "/")
        if not entry or entry.startswith("#"):
            continue
        if not _is_relative(entry):
            raise InputError(f"{path}: line {number}: {entry!r} is not a path inside the root of the list")
        if entry in seen:
            raise InputError(f"{path}: line {number}: {entry!r} is in the list already, at line {seen[entry]}")
        seen[entry] = number
    if not seen:
        raise InputError(f"{path}: the list is empty, expected one relative path a line")
    return list(seen)


def resolve_inside(root: str | Path, relative: str) -> Path:
    """`root/relative`, with links resolved. Raises InputError if that is not below `root`, as with '..' or a link."""
    base = resolved(root)
    if not _is_relative(relative) or not (path := resolved(base / relative)).is_relative_to(base):
        raise InputError(f"{root}: the entry {relative!r} leads out of this folder")
    return path


def resolved(path: str | Path) -> Path:
    """`Path.resolve`; a link that leads to itself stays as it is, for which Python before 3.13 raises RuntimeError."""
    return Path(os.path.realpath(path))


def _is_relative(entry: str) -> bool:
    posix, windows = PurePosixPath(entry), PureWindowsPath(entry)
    absolute = posix.is_absolute() or bool(windows.anchor)
    return bool(entry) and not absolute and ".." not in windows.parts and "\0" not in entry


def reason(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join((getattr(error, "strerror", None) or str(error)).split()) or type(error).__name__
