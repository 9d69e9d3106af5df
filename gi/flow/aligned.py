"""Large motion for estimators made for small motion: a homography aligns the images first. Ours, not the paper's."""
import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gi.errors import expect_at_least
from gi.flow.align import surely_known
from gi.flow.estimate import Estimator, PairEstimator, to_grey, zero_flow
from gi.flow.keypoints import Detector, Keypoints, match
from gi.flow.planar import fit_homography, planar_flow
from gi.flow.warp import warp
from gi.media.scale import video_pixels

_TOLERANCE = 3.0  # pixels at 432 x 240, see `video_pixels`
_SCALES = 1, 2  # enlarged images take five times as long, so they are the second try
_LARGEST = 1024  # the longer side of an enlarged image
_MANY, _FEW = 400, 3  # with so many keypoints, and matches fewer than so many times `least`, the scenes differ
_COARSEST = 0.5  # lowest `Keypoints.fineness` from which a plane is precise enough


class Aligned(PairEstimator):
    """Warps the second image to the first by a homography of matched SIFT keypoints before the estimator sees them.
    Images that show no common plane are passed to the estimator as they are. `keypoints` is the largest number per
    image, `least` the smallest number of matches that must agree.
    """

    def __init__(self, *, estimator: Estimator, keypoints: int = 1500, least: int = 8):
        super().__init__()
        expect_at_least(4, keypoints=keypoints, least=least)
        self.estimator, self.detect, self.least = estimator, Detector(keypoints), least
        self.freeze()

    @torch.no_grad()
    def between(self, images: Tensor, first: Tensor, second: Tensor, known: Sequence[Keypoints] | None = None
                ) -> Tensor:
        """See `Estimator`. `known` keypoints of all images are tried first, unless they are too coarse."""
        if len(first) == 0:
            return zero_flow(images[:0])
        size, grey = images.shape[-2:], to_grey(images)
        detected = functools.cache(lambda scale: known if scale is None else self.detect(list(grey), scale))
        scales = _scales(size, min((keypoints.fineness for keypoints in known), default=0) if known else 0)
        matches = functools.cache(lambda i, j, scale: match(detected(scale)[i], detected(scale)[j]))
        matrices = [self._homography(detected, matches, scales, i, j, size)
                    for i, j in zip(first.tolist(), second.tolist(), strict=True)]
        # On a CPU, only as many pairs at a time as there are threads: warped images take memory.
        chunk = torch.get_num_threads() if images.device.type == "cpu" else len(first)
        parts = [slice(start, start + chunk) for start in range(0, len(first), chunk)]
        rest = [self._rest(images[first[part]].float(), images[second[part]].float(), planar_flow(matrices[part], size))
                for part in parts]
        return planar_flow(matrices, size, after=torch.cat(rest))

    def _rest(self, first, second, plane):
        """The estimator's flow (P,2,H,W) between images (P,3,H,W), the second ones warped by `plane`, the homographies'
        flow.
        """
        plane = plane.to(second.device)
        # Beyond the second image's border the first one is shown, so that flow is zero there.
        layers = warp(torch.cat([second, torch.ones_like(second[:, :1])], dim=1), plane)
        known = surely_known(layers[:, 3:]).float()
        return known * self.estimator(first, layers[:, :3] * known + first * (1 - known))

    def keypoints(self, images: Tensor) -> list[Keypoints]:
        """Of images (N,3,H,W), as `between` takes them."""
        return self.detect(list(to_grey(images)))

    def _homography(self, detected, matches, scales, i, j, size):
        for scale in scales:  # both directions of a pair are matched at once
            start, end = matches(i, j, scale)[0] if i < j else matches(j, i, scale)[1]
            matrix = find_plane(start, end, size, self.least)
            if matrix is not None:
                return matrix
            if len(start) < _FEW * self.least and min(len(detected(scale)[k].positions) for k in (i, j)) >= _MANY:
                break
        return np.eye(3)


def find_plane(start: np.ndarray, end: np.ndarray, size: tuple[int, int], least: int = 8) -> np.ndarray | None:
    """The homography (3, 3) that at least `least` matches (n, 2) in images of `size` agree with, if there is one."""
    return fit_homography(start, end, size, tolerance=video_pixels(_TOLERANCE, size), least=least)


def _scales(size, fineness):
    """Scales at which keypoints are tried, in this order; None stands for known keypoints of this fineness."""
    candidates = [scale for scale in _SCALES if scale == 1 or scale * max(size) <= _LARGEST]
    return candidates if fineness < _COARSEST else [None, *(scale for scale in candidates if scale > fineness)]
