"""The first guess of what is missing, and what trust in keyframes makes of it."""
import pytest
import torch

from gi.config import instantiate, load_config
from gi.flow.unseen import smooth_fill, soft_fill
from gi.models.fold import prepare_for_inference
from gi.models.pixel_write import PixelWrite
from gi.models.smooth_start import Blend, smooth_start
from gi.models.trusted_copy import TrustedCopy
from tests.families import CONFIGS, random_inputs


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (5, 3)])
def test_shares_of_0_and_1_are_the_smooth_fill(size):
    random = torch.Generator().manual_seed(0)
    image = torch.rand(3, 3, *size, generator=random)
    mask = (torch.rand(3, 1, *size, generator=random) < 0.6).float()
    mask[2] = 0
    assert torch.allclose(soft_fill(image * (1 - mask), 1 - mask), smooth_fill(image, mask), atol=1e-6)


def test_little_trust_has_little_influence():
    image, share = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    share[..., 8:24, 8:24] = 0
    filled = []
    for trust in (0.0, 0.01, 0.5, 1.0):
        share[..., 16, 16] = trust
        colours = image.clone()
        colours[..., 16, 16] = trust  # white among black
        filled.append(soft_fill(colours, share)[0, 0])
    assert not filled[0].any() and filled[3][16, 16] == 1
    assert 0 < filled[1][16, 16] < 0.1 < filled[2][16, 16] < 1
    assert 0 < filled[1][12, 12] < filled[2][12, 12] <= filled[3][12, 12]
    constant = soft_fill(0.3 * share.expand(1, 3, 32, 32), share)
    assert torch.allclose(constant, torch.full_like(constant, 0.3), atol=1e-6)


def test_keyframes_enter_and_are_continued():
    target, sources, _, _ = random_inputs(1, 1, 48, 48)
    truth = torch.linspace(0, 1, 48).expand(1, 3, 48, 48)
    target = torch.cat([truth * (1 - target[:, 3:]), target[:, 3:]], dim=1)
    mask = target[:, 3:]
    half = mask.clone()
    half[..., 24:] = 0
    sources = torch.cat([truth * (1 - half), half], dim=1)[:, None]  # shows one half of the hole, where there is one
    flows, errors = torch.zeros(1, 1, 2, 48, 48), torch.zeros(1, 1, 1, 48, 48)
    torch.manual_seed(0)
    pixel_write = PixelWrite(8)
    start, guessed = smooth_start(target, pixel_write, sources.unbind(1), flows, errors)
    alone, all_guessed = smooth_start(target)
    assert torch.equal(all_guessed, mask) and not guessed[mask == 0].any() and guessed[half > 0].min() == 1
    shown = (mask > 0) & (half == 0)
    assert guessed[shown].numel() == 0 or guessed[shown].max() < 0.5
    wrong, before = ((picture - truth).abs().mean(dim=1, keepdim=True) for picture in (start, alone))
    assert wrong[mask > 0].mean() <= before[mask > 0].mean() and torch.equal(start * (1 - mask), target[:, :3])


def test_gradients_reach_the_trust():
    generator = TrustedCopy(pixel_width=8)
    generator(*random_inputs(2, 2, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())
    assert generator.pixel_write.head[0].weight.grad.abs().max() > 0


def test_decoder_changes_guesses_only():
    node = load_config([CONFIGS / "small" / "ours_small.yaml"]).model.params.generator
    generator = instantiate(node).eval()
    torch.nn.init.normal_(generator.decoder.to_rgb.weight)
    torch.nn.init.constant_(generator.blend.head[-1].bias, 2.0)  # what is drawn comes out
    for t in (0, 2):
        target, sources, flows, errors = random_inputs(2, t, 50, 41)
        guides = (sources.unbind(1), flows, errors) if t else ()
        with torch.no_grad():
            start, guessed = smooth_start(target, generator.pixel_write, *guides)
            drawn = generator(target, sources, flows, errors)
        assert drawn.shape == start.shape and (drawn - start).abs().max() > 0.1
        with torch.no_grad():
            assert torch.allclose(prepare_for_inference(generator)(target, sources, flows, errors), drawn, atol=1e-4)
        known = (guessed == 0).expand_as(start)
        assert torch.equal(drawn[known], start[known])


def test_relaxing_approaches_the_harmonic_continuation():
    """A linear ramp is harmonic: what it is continued with is the ramp itself."""
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    known = torch.ones(1, 1, 64, 64)
    known[..., 16:48, 16:48] = 0
    plain, relaxed = (
        (soft_fill(ramp * known, known, relax=relax) - ramp).abs().max() for relax in (False, True)
    )
    assert relaxed < 0.02 and relaxed < plain / 2


def test_blend_draws_alone_in_half_of_training():
    torch.manual_seed(0)
    blend = Blend().train()
    start, decoded = torch.zeros(64, 3, 8, 8), torch.ones(64, 3, 8, 8)
    share = torch.full((64, 1, 8, 8), 0.5)
    alone = (blend(decoded, start, share) == 1).flatten(1).all(dim=1)
    assert 16 < alone.sum() < 48
    assert (blend.eval()(decoded, start, share) <= 0.5).all()
