import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gi.metrics.functional import l1, psnr, ssim, ssim_map


@pytest.fixture(scope="module")
def images(reference):
    fill = reference.fill
    a = fill.image("metrics/a", 4, 3, 64, 96)
    return torch.from_numpy(a), torch.from_numpy(0.8 * a + 0.2 * fill.image("metrics/b", 4, 3, 64, 96))


def hole(images):
    mask = torch.zeros(len(images), 1, *images.shape[-2:])
    mask[..., 20:40, 30:70] = 1
    return mask


def test_ssim_is_that_of_the_original(reference, images):
    np.testing.assert_allclose(ssim(*images).numpy(), reference.load("metrics")["ssim"], atol=1e-6)


def test_ssim_needs_no_convolution(images, monkeypatch):
    """A card may compute one with 10 bits of mantissa, which differences of squares do not survive."""
    expected = ssim(*images)
    monkeypatch.setattr(torch.nn.functional, "conv2d", None)
    assert torch.equal(ssim(*images), expected)


def test_ssim_agrees_with_skimage_away_from_the_border(images):
    # skimage mirrors at the border where we pad with zeros, and truncates its Gaussian at 3.5 sigma: the same 11 pixels
    a, b = (image[0].numpy().astype(np.float64) for image in images)
    _, expected = structural_similarity(a, b, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5,
                                        use_sample_covariance=False, full=True)
    ours = ssim_map(*images)[0].numpy()
    inner = (..., slice(5, -5), slice(5, -5))
    np.testing.assert_allclose(ours[inner], expected[inner], atol=1e-3)  # float32 against float64
    assert abs((ours - expected)[inner].mean()) < 1e-5
    assert np.abs(ours - expected).max() > 1e-2  # the border does differ


def test_psnr_agrees_with_skimage(images):
    expected = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(*(i.numpy() for i in images), strict=True)]
    np.testing.assert_allclose(psnr(*images).numpy(), expected, rtol=1e-5)
    assert psnr(images[0], images[0]).isinf().all()


def test_metrics_inside_the_hole_see_nothing_else(images):
    a, b = images
    mask = hole(a)
    crop = (..., slice(20, 40), slice(30, 70))
    torch.testing.assert_close(psnr(a, b, mask), psnr(a[crop], b[crop]))
    torch.testing.assert_close(l1(a, b, mask), l1(a[crop], b[crop]))
    torch.testing.assert_close(l1(a, b), (a - b).abs().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(ssim(a, b, mask), ssim_map(a, b)[crop].mean(dim=(1, 2, 3)))
    composite = mask * b + (1 - mask) * a
    torch.testing.assert_close(psnr(a, composite, mask), psnr(a, b, mask))
    for metric in psnr, l1, ssim:
        empty = torch.cat([mask[:1], torch.zeros_like(mask[1:])])
        assert metric(a, b, empty).isnan().tolist() == [False, True, True, True]
        torch.testing.assert_close(metric(a, b, torch.ones_like(mask)), metric(a, b))


def test_every_image_alone_and_in_float32(images):
    a, b = images
    for metric in ssim, psnr, l1:
        together = metric(a, b)
        assert together.shape == (4,) and together.dtype == torch.float32
        torch.testing.assert_close(together, torch.cat([metric(a[i:i + 1], b[i:i + 1]) for i in range(4)]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ssim(a, b), ssim(a.clone(), b))
    torch.testing.assert_close(ssim(a, a), torch.ones(4))
    assert ssim(torch.rand(1, 3, 4, 3), torch.rand(1, 3, 4, 3)).isfinite().all()
