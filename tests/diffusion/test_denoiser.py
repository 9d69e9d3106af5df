"""EDM's coefficients against diffusers' scheduler, and both forms of the loss."""
import math

import pytest
import torch

from gi.diffusion import denoiser
from gi.diffusion.extra import extra

SIGMAS = [0.002, 0.05, 0.6, 2.0, 30.0, 700.0]


@pytest.fixture
def clips():
    """z_0, noise, σ of each clip, and what a network might have answered."""
    generator = torch.Generator().manual_seed(0)
    draw = [torch.randn(len(SIGMAS), 3, 4, 6, 5, generator=generator, dtype=torch.float64) for _ in range(3)]
    return draw[0], draw[1], torch.tensor(SIGMAS, dtype=torch.float64), draw[2]


def test_both_forms_of_the_loss(clips):
    """Mean (F − v)², against mean (1+σ²)/σ² (ẑ − z_0)² with c_skip and c_out as published."""
    z_0, noise, sigma, output = clips
    s = sigma.view(-1, 1, 1, 1, 1)
    z_sigma = z_0 + s * noise
    c_skip, c_out = 1 / (s**2 + 1), -s / (s**2 + 1).sqrt()
    weighted = (1 + s**2) / s**2 * (c_skip * z_sigma + c_out * output - z_0) ** 2
    v = (c_skip * z_sigma - z_0) / -c_out
    torch.testing.assert_close(denoiser.target(z_0, noise, sigma), v, rtol=1e-6, atol=1e-9)
    losses = torch.stack([((clip - answer) ** 2).mean() for clip, answer in zip(v, output.float(), strict=True)])
    torch.testing.assert_close(denoiser.loss(output, z_0, noise, sigma), losses, rtol=1e-6, atol=0)
    torch.testing.assert_close(denoiser.loss(output, z_0, noise, sigma), weighted.mean((1, 2, 3, 4)), rtol=1e-6, atol=0)
    perfect = denoiser.estimate(denoiser.target(z_0, noise, sigma), z_sigma, sigma)
    torch.testing.assert_close(perfect, z_0, rtol=0, atol=1e-6)


def test_coefficients_are_the_schedulers_to_the_bit(clips):
    pytest.importorskip("diffusers")
    scheduler = extra("diffusers").EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True, sigma_min=0.002,
        sigma_max=700.0)
    scheduler.set_timesteps(7)
    z_sigma, output = (tensor.float() for tensor in (clips[0] * 700, clips[3]))
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        assert torch.equal(denoiser.timestep(sigma), t)
        assert torch.equal(denoiser.scaled_input(z_sigma, sigma), scheduler.scale_model_input(z_sigma, t))
        estimate = scheduler.step(output, t, z_sigma).pred_original_sample
        assert torch.equal(denoiser.estimate(output, z_sigma, sigma), estimate)
        each = sigma.expand(len(z_sigma))  # a level for each clip gives the same
        assert torch.equal(denoiser.estimate(output, z_sigma, each), estimate)


def test_noise_levels_of_training():
    logs = denoiser.draw_sigma(40_000, 0.7, 1.6, torch.Generator().manual_seed(0)).log()
    assert math.isclose(logs.mean(), 0.7, abs_tol=0.03) and math.isclose(logs.std(), 1.6, abs_tol=0.03)
