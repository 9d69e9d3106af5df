"""Latents and back: pixel unshuffling, and SVD's autoencoder in chunks against the whole."""
import copy

import pytest
import torch
from skimage import data

from gi.diffusion.codec import PixelShuffle, VideoAutoencoder, chunks
from gi.errors import InputError
from tests.diffusion.svd import make_vae


def test_pixels_become_channels_and_come_back():
    codec = PixelShuffle(factor=4)
    pixels = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None, None] / 255
    latents = codec.encode(pixels)
    assert latents.shape == (1, 1, 48, 128, 128)
    torch.testing.assert_close(latents[0, 0, 16 + 4 * 1 + 2], 2 * pixels[0, 0, 1, 1::4, 2::4] - 1)  # green, row 1
    torch.testing.assert_close(codec.decode(latents), pixels, rtol=0, atol=1e-6)
    assert 0.7 < (codec.scale * latents).std() < 1.4


@pytest.mark.parametrize(("count", "length", "overlap"), [(1, 8, 3), (3, 8, 7), (8, 8, 3), (9, 8, 3), (25, 8, 3),
                                                          (25, 8, 0), (25, 8, 7), (14, 5, 2), (1000, 8, 4)])
def test_chunks_cover_all_frames_with_weights_of_one(count, length, overlap):
    plan, total = chunks(count, length, overlap), torch.zeros(count, dtype=torch.float64)
    for start, weights in plan:
        assert len(weights) == min(length, count)
        total[start:start + len(weights)] += torch.tensor(weights, dtype=torch.float64)
    torch.testing.assert_close(total, torch.ones_like(total))
    starts = [start for start, _ in plan]
    assert all(0 < b - a <= length - overlap for a, b in zip(starts, starts[1:], strict=False))
    assert len(plan) <= 1 + -(-max(count - length, 0) // (length - overlap))


@pytest.fixture(scope="module")
def vae():
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return make_vae()


def test_encoding_is_the_mode_whatever_is_encoded_at_once(vae):
    pixels = torch.rand(2, 5, 3, 16, 24)
    with torch.no_grad():
        modes = torch.stack([vae.encode(2 * clip - 1).latent_dist.mode() for clip in pixels])
    for chunk in 1, 4, 10:
        codec = VideoAutoencoder(vae, chunk=chunk, overlap=0)
        latents = codec.encode(pixels)
        assert latents.shape == (2, 5, codec.channels, 16 // codec.factor, 24 // codec.factor)
        torch.testing.assert_close(latents, modes, rtol=0, atol=1e-5)
    assert codec.scale == 0.18215


def test_overlapping_chunks_have_no_seam(vae):
    """Plain chunks differ from the whole clip where they meet, and jump there; overlapping ones by a fifth at most."""
    count, chunk, latents, sizes = 28, 14, torch.randn(1, 28, 4, 6, 8), []
    with torch.no_grad():
        whole = vae.decode(latents[0], num_frames=count).sample / 2 + 0.5
    hook = vae.decoder.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))

    def errors(overlap):
        decoded = VideoAutoencoder(vae, chunk=chunk, overlap=overlap).decode(latents)[0]
        assert decoded.shape == (count, 3, 12, 16)
        return [(a - b).abs().mean((1, 2, 3)) for a, b in ((decoded, whole), (decoded.diff(dim=0), whole.diff(dim=0)))]

    (plain, plain_jump), (error, jump) = errors(0), errors(4)
    seam = int(plain_jump.argmax())  # between this frame and the next
    assert seam + 1 == chunk
    assert plain_jump[seam] > 3 * plain_jump.median()
    assert error.max() < plain.max() / 5 and jump.max() < plain_jump.max() / 5
    assert max(sizes) == chunk
    hook.remove()
    assert torch.equal(VideoAutoencoder(vae, chunk=count).decode(latents)[0], whole)


def test_no_float16(vae):
    half = VideoAutoencoder(copy.deepcopy(vae).half())
    for call in (lambda: half.encode(torch.rand(1, 1, 3, 8, 8)), lambda: half.decode(torch.rand(1, 1, 4, 4, 4))):
        with pytest.raises(InputError, match="overflows in float16"):
            call()
    codec = VideoAutoencoder(vae)
    pixels = torch.rand(1, 2, 3, 8, 8)
    with torch.autocast("cpu", torch.float16):  # of a training in mixed precision: not in here
        assert torch.equal(codec.encode(pixels), VideoAutoencoder(vae).encode(pixels))
    assert codec.train().vae.training is False and not any(p.requires_grad for p in codec.parameters())
