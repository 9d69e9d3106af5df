"""The true optical flow between two frames made from one view, from the maps that made them (`gi.data.pairs`)."""
import cv2
import numpy as np
import torch
import torch.nn.functional as F

_STEPS = 4  # of Newton's method with fixed slopes: the homography it starts from is off by a few pixels
_TOLERANCE = 0.01  # pixels of the view, before the last step
_SMALLEST_AREA = 0.02  # of the view that a pixel covers, in pixels of it; a smaller one is a replicated border


def exact_flow(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow from a frame to another, float32 (2, H, W) in pixels, x first; and where there is one, bool (H, W).

    `start` and `end` are the frames' maps, float32 (2, H, W): where each pixel lies in the view both frames show. The
    flow at p is q - p with end(q) = start(p), found by Newton's method on the map, which is read bilinearly. There is
    none, and it is 0, where the other frame does not show the place or either is not `upright`.
    """
    height, width = start.shape[1:]
    slopes = _slopes(end)
    usable = upright(end)
    guess = _homography(end, usable)
    if guess is None:
        return np.zeros_like(start), np.zeros((height, width), bool)
    q = cv2.perspectiveTransform(start.reshape(2, -1).T[None].astype(np.float64), guess)[0].T.reshape(start.shape)
    last = np.array([width - 1, height - 1])[:, None, None]
    inside = np.clip(q, 0, last)
    a, b, c, d = _read(slopes, inside)
    determinant = a * d - b * c
    determinant = np.where(np.abs(determinant) < _SMALLEST_AREA, np.inf, determinant)
    for _ in range(_STEPS):
        x, y = q - inside  # beyond the frame the map is extrapolated linearly
        residual = start - _read(end, inside) - np.stack([a * x + b * y, c * x + d * y])
        q = q + np.stack([d * residual[0] - b * residual[1], a * residual[1] - c * residual[0]]) / determinant
        inside = np.clip(q, 0, last)
    valid = np.abs(residual).max(axis=0) < _TOLERANCE
    valid &= (np.abs(q - inside).max(axis=0) < 1e-2) & (_read(usable[None].astype(np.float32), inside)[0] > 0.999)
    valid &= upright(start)
    y, x = np.indices((height, width))
    return np.where(valid, q - np.stack([x, y]), 0).astype(np.float32), valid


def upright(coordinates: np.ndarray) -> np.ndarray:
    """Where a map (2, H, W) shows the view itself, bool (H, W), not its mirrored or replicated border, nor pixels next
    to that: mirroring turns the map's slopes around, along one axis or both; replicating makes them 0.
    """
    slopes = _slopes(coordinates)
    a, b, c, d = slopes
    regular = a * d - b * c > _SMALLEST_AREA
    if regular.any():
        typical = slopes[:, regular].mean(axis=1)
        regular &= np.tensordot(typical, slopes, 1) > 0
    return cv2.erode(regular.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) > 0


def _slopes(coordinates):
    """Derivatives of x by x, x by y, y by x, y by y: (4, H, W)."""
    (x_y, x_x), (y_y, y_x) = (np.gradient(c.astype(np.float64)) for c in coordinates)
    return np.stack([x_x, x_y, y_x, y_y])


def _homography(coordinates, usable):
    """The homography closest to the inverse of a map, from the view to the frame; None where too little is `usable`."""
    y, x = np.nonzero(usable)
    if len(y) < 16:
        return None
    subset = np.linspace(0, len(y) - 1, min(len(y), 400)).astype(int)
    points = np.stack([x[subset], y[subset]], axis=1).astype(np.float64)
    matrix, _ = cv2.findHomography(coordinates[:, y[subset], x[subset]].T.astype(np.float64), points)
    return matrix


def _read(values, position):
    """Values (C, H, W) at positions (2, H, W) inside, x first, bilinearly: float64 (C, H, W)."""
    last = np.array(values.shape[:0:-1])[:, None, None] - 1
    grid = torch.from_numpy(2 * position / last - 1).permute(1, 2, 0)[None]  # float64: thousandths of pixels matter
    return F.grid_sample(torch.from_numpy(values.astype(np.float64))[None], grid, align_corners=True)[0].numpy()
