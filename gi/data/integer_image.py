"""Image operations in whole numbers, for files that must come out the same, bit for bit, on every machine.

Image libraries round and compress differently on another processor or in another version.
"""
import math
import struct
import zlib

import numpy as np

_STEPS = 256  # positions between two pixels that `resample` tells apart


def square_view(photograph: np.ndarray, *, size: int, margin: int) -> np.ndarray:
    """The largest central square of a photograph at `size` pixels, and `margin` / 2 pixels around it on each side.

    uint8 (H, W, 3) -> (size + margin, size + margin, 3), scaled by a triangle filter as wide as shrinking needs, which
    is bilinear where it enlarges. Where the photograph ends it goes on mirrored.
    """
    side = min(photograph.shape[:2])
    rows, columns = (_taps(extent, side, size, margin) for extent in photograph.shape[:2])
    sums = _weighted(_weighted(photograph, *rows).swapaxes(0, 1), *columns).swapaxes(0, 1)
    total = (rows[1].sum(axis=1)[:, None] * columns[1].sum(axis=1))[..., None]
    return ((2 * sums + total) // (2 * total)).astype(np.uint8)


def _taps(extent: int, side: int, size: int, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of the view along one axis: which pixels of the photograph it is made of, (view, K), and weights.

    At a scale of n to m and in units of 1/2m pixels of the square, pixel i of the view has its centre at n (2i + 1) and
    pixel j of the square at m (2j + 1). That makes the weights of a triangle integers.
    """
    common = math.gcd(side, size)
    n, m = side // common, size // common
    centre = n * (2 * np.arange(-(margin // 2), size + margin - margin // 2, dtype=np.int64) + 1)
    reach = 2 * max(n, m)
    j = ((centre - reach) // (2 * m))[:, None] + np.arange(reach // m + 2)
    weights = np.maximum(0, reach - np.abs(m * (2 * j + 1) - centre[:, None]))
    last = extent - 1
    mirrored = np.mod(j + (extent - side) // 2, max(1, 2 * last))
    return np.where(mirrored > last, 2 * last - mirrored, mirrored), weights


def _weighted(values: np.ndarray, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums over the first axis, (N, ...) -> (view, ...) int64."""
    return np.stack([np.tensordot(w, values[i].astype(np.int64), 1) for i, w in zip(index, weights, strict=True)])


def resample(image: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Reads uint8 (H, W, 3) at coordinates (2, h, w), x first, bilinearly to 1/256 pixel; the border is replicated."""
    columns, rows = (_positions(c, extent) for c, extent in zip(coordinates, image.shape[1::-1], strict=True))
    values = image.astype(np.int64)
    sums = sum(wy[..., None] * wx[..., None] * values[y, x] for y, wy in rows for x, wx in columns)
    return ((sums + _STEPS**2 // 2) // _STEPS**2).astype(np.uint8)


def _positions(coordinate: np.ndarray, extent: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Both neighbours of each coordinate, as [(pixel, weight), (pixel, weight)]."""
    position = np.floor(coordinate.astype(np.float64) * _STEPS + 0.5).astype(np.int64)
    pixel, weight = np.divmod(np.clip(position, 0, (extent - 1) * _STEPS), _STEPS)
    return [(pixel, _STEPS - weight), (np.minimum(pixel + 1, extent - 1), weight)]


def shift_saturation_value(image: np.ndarray, saturation: float, value: float) -> np.ndarray:
    """`photometric.shift_hsv` of uint8 (H, W, 3) without a change of hue, which is kept exactly."""
    levels = image.astype(np.int64)
    highest, lowest = (extreme(levels, axis=-1, keepdims=True) for extreme in (np.max, np.min))
    chroma = np.maximum(1, highest - lowest)
    below = highest - levels  # how far a channel is below the highest one, of `chroma`: that is the hue
    below = np.where(highest == lowest, np.array([0, 1, 1]), below)  # the hue of grey is red's, as in OpenCV
    old_saturation = (2 * 255 * (highest - lowest) + highest) // (2 * np.maximum(1, highest))
    new_value = np.floor(np.clip(highest + value, 0, 255) + 0.5).astype(np.int64)
    new_saturation = np.floor(np.clip(old_saturation + saturation, 0, 255) + 0.5).astype(np.int64)
    share = 255 * chroma
    drop = (2 * new_value * new_saturation * below + share) // (2 * share)
    return (new_value - drop).astype(np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """A PNG file of uint8 (H, W, 3) or (H, W), stored: what a compressor makes of it depends on its version."""
    height, width = image.shape[:2]
    rows = np.ascontiguousarray(image).reshape(height, -1)
    data = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()  # each row starts with its filter
    limit = 65535  # of a stored block
    stream = b"\x78\x01"
    for start in range(0, len(data), limit):
        block = data[start : start + limit]
        stream += struct.pack("<BHH", start + limit >= len(data), len(block), len(block) ^ 0xFFFF) + block
    stream += struct.pack(">I", zlib.adler32(data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if image.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
