"""The arithmetic of the noise level (EDM, Karras et al. 2022), with the coefficients of Stable Video Diffusion.

A clip's latents z_0 have about unit variance, z_σ = z_0 + σ·noise. The network's output is F, and is taught v.
"""
import torch
from torch import Tensor


def over(sigma: Tensor, latents: Tensor) -> Tensor:
    """Noise levels, one for all clips () or one each (B,), shaped so that they multiply latents (B, F, c, h, w)."""
    return sigma.reshape(-1, *[1] * (latents.ndim - 1)) if sigma.ndim else sigma


def scaled_input(z_sigma: Tensor, sigma: Tensor) -> Tensor:
    """c_in·z_σ, c_in = 1 / √(σ²+1): unit variance at every noise level."""
    return z_sigma / (over(sigma, z_sigma) ** 2 + 1) ** 0.5


def timestep(sigma: Tensor) -> Tensor:
    """c_noise = ¼ ln σ, how the network is told the noise level."""
    return 0.25 * sigma.log()


def estimate(output: Tensor, z_sigma: Tensor, sigma: Tensor) -> Tensor:
    """ẑ_0 = c_skip·z_σ + c_out·F, with c_skip = 1 / (σ²+1) and c_out = −σ / √(σ²+1).

    output, z_sigma: (B, F, c, h, w); sigma: () or (B,). With the operations of diffusers' EulerDiscreteScheduler in
    their order, so that both give the same bits.
    """
    sigma = over(sigma, z_sigma)
    return output * (-sigma / (sigma**2 + 1) ** 0.5) + z_sigma / (sigma**2 + 1)


def target(z_0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """What F should be: v = (c_skip·z_σ − z_0) / −c_out = (noise − σ·z_0) / √(σ²+1), of which the second is computed:
    it loses no digits.
    """
    sigma = over(sigma, z_0)
    return (noise - sigma * z_0) / (sigma**2 + 1) ** 0.5


def loss(output: Tensor, z_0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """(B,): mean (F − v)² of each clip, which is EDM's mean (σ²+1)/σ² · (ẑ_0 − z_0)²."""
    return (output.float() - target(z_0, noise, sigma)).square().flatten(1).mean(dim=1)


def draw_sigma(count: int, mean: float, deviation: float, generator: torch.Generator | None = None) -> Tensor:
    """(count,) noise levels of training, ln σ ~ N(mean, deviation²), on the CPU."""
    return (mean + deviation * torch.randn(count, generator=generator)).exp()
