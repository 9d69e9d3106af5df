"""Large motion for estimators that find small ones: what is seen is aligned first. Ours, not the paper's."""
import cv2
import numpy as np
import torch
from torch import Tensor, nn

from gi.errors import InputError
from gi.flow.estimate import PairEstimator, to_grey, zero_flow
from gi.flow.planar import fit_homography, planar_flow
from gi.flow.warp import warp

_RATIO = 0.8  # a match must be this much closer than the second best one (Lowe, 2004)
_TOLERANCE = 3.0  # pixels


class Aligned(PairEstimator):
    """An estimator that sees the second image brought onto the first by a homography, from matched SIFT keypoints.

    Where two images show no common plane, the estimator sees them as they are. Signature as in `gi.flow.estimate`.

    Args:
        estimator: finds what the homography leaves over, such as DIS.
        keypoints: the most to look for in an image.
        least: matches that must agree.
    """

    def __init__(self, *, estimator: nn.Module, keypoints: int = 600, least: int = 10):
        super().__init__()
        if keypoints < 4 or least < 4:
            raise InputError(f"keypoints and least of Aligned: expected at least 4, got {keypoints} and {least}")
        self.estimator, self.least = estimator, least
        self.keypoints = keypoints
        self.freeze()

    @torch.no_grad()
    def between(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """See `gi.flow.estimate.flow_between`."""
        if len(first) == 0:
            return zero_flow(images[:0])
        size = images.shape[-2:]
        sift = cv2.SIFT_create(self.keypoints, contrastThreshold=0.02)
        found = [sift.detectAndCompute(image, None) for image in to_grey(images)]
        matrices = [self._homography(found[i], found[j], size)
                    for i, j in zip(first.tolist(), second.tolist(), strict=True)]
        plane = torch.stack([planar_flow(matrix, size) for matrix in matrices]).to(images.device)
        images = images.float()
        # Beyond the second image's border the first one stands in, so that nothing is found to move there.
        layers = warp(torch.cat([images, torch.ones_like(images[:, :1])], dim=1)[second], plane)
        seen = (layers[:, 3:] > 0.999).float()
        rest = seen * self.estimator(images[first], layers[:, :3] * seen + images[first] * (1 - seen))
        return rest + _at(matrices, rest)

    def _homography(self, first, second, size):
        (points, features), (others, other_features) = first, second
        if min(len(points), len(others)) < self.least:
            return np.eye(3)
        pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(features, other_features, k=2)
        pairs = [best for best, second_best in pairs if best.distance < _RATIO * second_best.distance]
        start = np.array([points[match.queryIdx].pt for match in pairs]).reshape(-1, 2)
        end = np.array([others[match.trainIdx].pt for match in pairs]).reshape(-1, 2)
        matrix = fit_homography(start, end, size, tolerance=_TOLERANCE, least=self.least)
        return np.eye(3) if matrix is None else matrix


def _at(matrices, rest):
    """Flow (N,2,H,W) of homographies at places moved by `rest` (N,2,H,W) before."""
    height, width = rest.shape[-2:]
    x = torch.arange(width, device=rest.device) + rest[:, 0]
    y = torch.arange(height, device=rest.device)[:, None] + rest[:, 1]
    values = torch.tensor(np.stack(matrices), dtype=torch.float32, device=rest.device)[..., None, None]
    across, down, depth = (values[:, i, 0] * x + values[:, i, 1] * y + values[:, i, 2] for i in range(3))
    return torch.stack([across / depth - x, down / depth - y], dim=1)
