"""Predictions as files, so that other programs can look at them, `scripts/evaluate_folder.py` among them."""
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from gi.compositing import pixels_of_tensor
from gi.media.io import write_image

_LONGEST = 180  # bytes of a file's or folder's name, most file systems allow 255; a temporary name adds some


def write_predictions(folder: str | Path, names: Sequence[str], images: Tensor) -> None:
    """Writes images (B,3,H,W) in [0,1] as PNG below `folder`, each completely or not at all; see `prediction_path`."""
    for name, picture in zip(names, pixels_of_tensor(images), strict=True):
        write_image(prediction_path(folder, name), picture)


def prediction_path(folder: str | Path, name: str) -> Path:
    """`folder`/`name`.png, always below `folder` and different for every name.

    Folders in a name are kept. Special characters become % and hexadecimal, long parts are cut and hashed.

    >>> prediction_path("p", "000012").as_posix(), prediction_path("p", "../a:b").as_posix()
    ('p/000012.png', 'p/%2E./a%3Ab.png')
    """
    *folders, file = map(_safe, name.split("/"))
    # A folder must not have the name of another image's file.
    folders = [re.sub(r"\.(?=png$)", "%2E", part, flags=re.IGNORECASE) for part in folders]
    return Path(folder, *folders, f"{file}.png")


def _safe(part: str) -> str:
    def encoded(match):
        return "".join(f"%{byte:02X}" for byte in match[0].encode(errors="surrogateescape"))

    # Dots alone mean folders, and names that begin with one are hidden.
    text = re.sub(r"[^\w .,+=@()-]|^\.", encoded, part) or "%"
    if len(text.encode()) <= _LONGEST:
        return text
    digest = hashlib.sha256(part.encode(errors="surrogateescape")).hexdigest()
    return f"{text.encode()[:_LONGEST - 40].decode(errors='ignore')}%~{digest[:32]}"
