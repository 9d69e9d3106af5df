"""Large motion for estimators that find small ones: what is seen is aligned first. Ours, not the paper's."""
import functools
import hashlib
import threading

import cachetools
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gi.errors import expect_at_least
from gi.flow.align import surely_known
from gi.flow.estimate import Estimator, PairEstimator, to_grey, zero_flow
from gi.flow.planar import fit_homography, planar_flow
from gi.flow.warp import warp
from gi.media.scale import video_pixels

_RATIO = 0.8  # a match must be this much closer than the second best one (Lowe, 2004)
_TOLERANCE = 3.0  # pixels at 432 x 240, see `video_pixels`
_SCALES = 1, 2  # enlarged images take five times as long, so they are looked at only where no plane is found without
_LARGEST = 1024  # the longer side of an enlarged image
_REMEMBERED = 48 << 20  # bytes of keypoints of images looked at before, of some 60 of 432 x 240


class Aligned(PairEstimator):
    """An estimator that sees the second image brought onto the first by a homography, from matched SIFT keypoints.

    Where two images show no common plane, it sees them as they are. `keypoints` are the most to look for in an image,
    `least` the matches that must agree.
    """

    def __init__(self, *, estimator: Estimator, keypoints: int = 1500, least: int = 8):
        super().__init__()
        expect_at_least(4, keypoints=keypoints, least=least)
        self.estimator, self.keypoints, self.least = estimator, keypoints, least
        self.freeze()

    @torch.no_grad()
    def between(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        if len(first) == 0:
            return zero_flow(images[:0])
        size, grey = images.shape[-2:], to_grey(images)
        matches = functools.cache(lambda i, j, scale: self._matches(grey[i], grey[j], scale))
        matrices = [self._homography(matches, i, j, size)
                    for i, j in zip(first.tolist(), second.tolist(), strict=True)]
        plane = planar_flow(matrices, size).to(images.device)
        images = images.float()
        # Beyond the second image's border the first one stands in, so that nothing is found to move there.
        layers = warp(torch.cat([images, torch.ones_like(images[:, :1])], dim=1)[second], plane)
        seen = surely_known(layers[:, 3:]).float()
        rest = seen * self.estimator(images[first], layers[:, :3] * seen + images[first] * (1 - seen))
        return planar_flow(matrices, size, after=rest)

    def _matches(self, first, second, scale):
        return _match(*(_features(grey, scale, scale * self.keypoints) for grey in (first, second)))

    def _homography(self, matches, i, j, size):
        for scale in _SCALES:
            if scale > 1 and scale * max(size) > _LARGEST:
                break
            ends = matches(i, j, scale)[0] if i < j else matches(j, i, scale)[1]
            matrix = fit_homography(*ends, size, tolerance=video_pixels(_TOLERANCE, size), least=self.least)
            if matrix is not None:
                return matrix
        return np.eye(3)


def _content(grey, *options):
    return hashlib.blake2b(grey.tobytes()).digest(), grey.shape, *options


@cachetools.cached(cachetools.LRUCache(_REMEMBERED, getsizeof=lambda found: found[0].nbytes + found[1].nbytes),
                   key=_content, lock=threading.Lock())
def _features(grey, scale, most):
    """Places (n, 2) of keypoints in an image (H, W), and their descriptors (n, 128), roots of SIFT's histograms.

    Roots tell better whether two are alike (Arandjelović & Zisserman, 2012). Remembered by the image's content: frames
    of videos and keyframes belong to many pairs.
    """
    if scale != 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    keypoints, histograms = cv2.SIFT_create(most, contrastThreshold=0.01).detectAndCompute(grey, None)
    if histograms is None:
        return np.zeros((0, 2)), torch.zeros(0, 128)
    places = (np.array([keypoint.pt for keypoint in keypoints]) + 0.5) / scale - 0.5
    return places, F.normalize(torch.from_numpy(histograms), p=1).sqrt()


def _match(first, second):
    """Where the keypoints that match lie in the one image and in the other, (n, 2) each; and so the other way round."""
    (places, descriptors), (others, other_descriptors) = first, second
    if min(len(places), len(others)) < 2:
        return (places[:0], others[:0]), (others[:0], places[:0])
    cosine = (descriptors @ other_descriptors.T).numpy()
    other_clear, other_which = _clear(np.ascontiguousarray(cosine.T))
    clear, which = _clear(cosine)
    return (places[clear], others[which]), (others[other_clear], places[other_which])


def _clear(cosine):
    """Rows whose largest cosine is clearly the largest, and in which columns it is; overwrites them."""
    row = np.arange(len(cosine))
    which = cosine.argmax(axis=1)
    best = cosine[row, which]
    cosine[row, which] = -1
    clear = 2 - 2 * best < _RATIO**2 * (2 - 2 * cosine.max(axis=1))  # squared distances of vectors of length 1
    return clear, which[clear]
