"""Pictures and plots as a page embeds them: small ones without loss, large ones compressed."""
import base64
import io
from typing import Any

import cv2
import numpy as np
from PIL import Image

LARGEST = 512


def picture_uri(picture: np.ndarray) -> str:
    """uint8 (H, W, 3) as a data URI: PNG for small pictures, whose pixels are to be seen, JPEG for large ones, which
    are made smaller than `LARGEST` pixels on a side.
    """
    large = picture.shape[0] * picture.shape[1] > 128 * 128
    image, stream = Image.fromarray(np.ascontiguousarray(picture)), io.BytesIO()
    image.thumbnail((LARGEST, LARGEST))
    options: dict[str, Any] = {"format": "JPEG", "quality": 90} if large else {"format": "PNG", "optimize": True}
    image.save(stream, **options)
    return data_uri("image/jpeg" if large else "image/png", stream.getvalue())


def hatch(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Shows a hole: `image` float (H, W, 3) in [0,1] with grey stripes where `mask` (H, W) is 1, as uint8 (H, W, 3)."""
    rows, columns = np.indices(mask.shape)
    stripes = np.where((rows + columns) // max(2, min(mask.shape) // 24) % 2, 0.62, 0.5)
    return to_uint8(np.where(mask[..., None] > 0.5, stripes[..., None], image))


def error_map(a: np.ndarray, b: np.ndarray, largest: float = 0.5) -> np.ndarray:
    """Mean absolute difference over colours of two (H, W, 3) images in [0,1]: black for 0 to bright at `largest`."""
    difference = np.abs(a - b).mean(axis=-1) / largest
    return cv2.cvtColor(cv2.applyColorMap(to_uint8(difference), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """An image of any shape in [0, 1], clipped to that, as uint8 of 0 to 255."""
    return (255 * np.clip(image, 0, 1)).round().astype(np.uint8)


def data_uri(kind: str, content: bytes) -> str:
    """Content of a media type such as "image/png" as a URI that holds all of it (RFC 2397)."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
