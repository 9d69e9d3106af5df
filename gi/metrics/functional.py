"""Image metrics as pure functions, and the table of them: a new one is a function and an entry here.

(N,C,H,W) images in [0,1] in, one number per image out, (N,) float32. With a mask (N,1,H,W), 1 = missing, a metric looks
at the hole only; an image without a hole then gives nan.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.metrics.fid import frechet_distance
from gi.metrics.metric import Metric, Network, table

MOST_PSNR = 60.0  # dB, the cap of a PSNR in means, as perfect ones are infinite; rounding to 8 bits gives 58.9


def l1(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference, in [0,1]."""
    return _mean((a.float() - b.float()).abs(), mask)


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB for a data range of 1; infinite for equal images."""
    return -10 * torch.log10(_mean((a.float() - b.float()).square(), mask))


def ssim(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity, in [-1,1], averaged over pixels and channels; with a mask over the hole's pixels.

    11 x 11 Gaussian window of sigma 1.5, data range 1, zeros beyond the border (the convention of the paper's tables;
    others crop the border, which gives slightly different numbers).
    """
    return _mean(ssim_map(a, b), mask)


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of every pixel and channel, (N,C,H,W) float32; see `ssim`."""
    a, b = a.float(), b.float()
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a ** 2
    variance_b = _blur(b * b) - mean_b ** 2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01 ** 2, 0.03 ** 2
    return ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)
            / ((mean_a ** 2 + mean_b ** 2 + c1) * (variance_a + variance_b + c2)))


def perceptual_distance(a: Tensor, b: Tensor, network: nn.Module) -> Tensor:
    """LPIPS by `gi.metrics.features.LPIPS`, >= 0; 0 for equal images."""
    return network(a, b)


def harmonic(score: float, fid: float) -> float:
    """Harmonic mean of a score in [0,1], higher is better, and FID mapped to that scale (original release)."""
    if math.isnan(fid):
        return math.nan
    quality = max(0.0, 100 - fid) / 100
    return 2 * score * quality / (score + quality + 0.001)


def harmonic_of_lpips(lpips: float, fid: float) -> float:
    """`harmonic` of 1 - LPIPS, of which higher is better."""
    return harmonic(1 - lpips, fid)


INCEPTION_NETWORK = Network("inception", "gi.metrics.features.InceptionFeatures")
LPIPS_NETWORK = Network("lpips", "gi.metrics.features.LPIPS")
IMAGE_METRICS = table(
    Metric("FID", 2, False, "fid", frechet_distance, INCEPTION_NETWORK, per_set=True),
    Metric("LPIPS", 3, False, "lpips", perceptual_distance, LPIPS_NETWORK),
    Metric("PSNR", 2, True, "psnr", psnr, in_hole=True, most=MOST_PSNR),
    Metric("SSIM", 3, True, "ssim", ssim, in_hole=True),
    Metric("L1", 4, False, "l1", l1, in_hole=True),
    Metric("F1, LPIPS/FID", 3, True, "lpips_fid_f1", harmonic_of_lpips, of=("lpips", "fid")),
    Metric("F1, SSIM/FID", 3, True, "ssim_fid_f1", harmonic, of=("ssim", "fid")),
)


def _blur(x: Tensor, size: int = 11, sigma: float = 1.5) -> Tensor:
    window = torch.exp(-(torch.arange(size) - size // 2) ** 2 / (2 * sigma ** 2))
    weights = (window / window.sum()).tolist()
    # Not a convolution, which a card may compute in TF32: variances are small differences of large numbers.
    for dim, padding in (2, (0, 0, size // 2, size // 2)), (3, (size // 2, size // 2)):
        padded, length = F.pad(x, padding), x.shape[dim]
        x = sum((weight * padded.narrow(dim, i, length) for i, weight in enumerate(weights)), x.new_zeros(()))
    return x


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return x.mean(dim=(1, 2, 3))
    mask = (mask > 0.5).to(x.dtype).expand_as(x)
    return (x * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))
