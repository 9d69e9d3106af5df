"""Conditions, the token, and the UNet: widened, with LoRA, checkpointed, at its real size."""
import copy

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import nn

from gi.diffusion import lora, memory
from gi.diffusion.backbone import SmallDiffusion, StableVideoDiffusion
from gi.diffusion.codec import PixelShuffle, VideoAutoencoder
from gi.diffusion.condition import Condition
from gi.diffusion.denoiser import timestep
from gi.diffusion.extra import extra
from gi.diffusion.token import ClipToken, middle_keyframe
from gi.errors import InputError
from tests.diffusion.svd import make_unet, make_vae

pytest.importorskip("diffusers")
IDS = torch.tensor([[6.0, 127.0, 0.0]] * 2)


@pytest.fixture
def clip():
    """Pixels and masks of two clips of five frames; the first clip has keyframes 1 and 4, the second none."""
    generator = torch.Generator().manual_seed(0)
    pixels, masks = torch.rand(2, 5, 3, 16, 24, generator=generator), torch.zeros(2, 5, 1, 16, 24)
    masks[..., 3:10, 4:15] = 1
    masks[0, [1, 4]] = 0
    return pixels, masks


def latents(channels=4, size=(8, 12)):
    return torch.randn(2, 5, channels, *size)


def test_symmetric_condition(clip):
    """E((1−m)x − m) and E((1−m)x + m) for x in [−1, 1]: equal where pixels are known, whatever lies in the hole."""
    pixels, masks = clip
    vae = make_vae()
    x = 2 * pixels - 1
    black, white = ((1 - masks) * x + sign * masks for sign in (-1, 1))
    with torch.no_grad():
        modes = [torch.stack([vae.encode(c).latent_dist.mode() for c in video]) for video in (black, white)]
    condition, codec = Condition("symmetric"), VideoAutoencoder(vae)
    z_c = condition(pixels, masks, codec)
    assert z_c.shape[2] == condition.channels(codec) == 8
    torch.testing.assert_close(z_c, torch.cat(modes, dim=2), rtol=0, atol=1e-5)
    shuffled = condition(pixels, masks, PixelShuffle(factor=2))
    first, second = shuffled.chunk(2, dim=2)
    missing = torch.nn.functional.max_pool2d(masks.flatten(0, 1), 2).unflatten(0, (2, 5)) > 0
    assert torch.equal((first != second).any(dim=2, keepdim=True), missing)
    assert torch.equal(condition(torch.where(masks > 0, 0.7, pixels), masks, PixelShuffle(factor=2)), shuffled)


def test_downsampled_condition(clip):
    pixels, masks = clip
    condition, codec = Condition("downsampled"), PixelShuffle(factor=2)
    z_c = condition(pixels, masks, codec)
    assert z_c.shape[2] == condition.channels(codec) == 13
    assert torch.equal(z_c[:, :, :12], codec.encode(pixels * (1 - masks)))
    assert torch.equal(z_c[:, :, 12:], masks[..., ::2, ::2])
    with pytest.raises(InputError, match="condition: expected symmetric or downsampled, got 'both'"):
        Condition("both")


def test_token_is_of_the_keyframe_in_the_middle(clip):
    pixels, masks = clip
    position, present = middle_keyframe(masks)
    assert position[0] == 1 and present.tolist() == [True, False]
    network = SmallDiffusion(widths=(32, 32), token_dim=8, codec=PixelShuffle(factor=2))
    conditions = network.conditions(pixels, masks)
    small = pixels[0, 1].reshape(3, 4, 4, 4, 6).mean(dim=(2, 4))
    torch.testing.assert_close(conditions.token[0, 0], network.token.linear(2 * small.flatten() - 1))
    assert not conditions.token[1].any()
    assert not any(part.any() for part in conditions.dropped())
    assert [part.shape for part in conditions.dropped()] == [part.shape for part in conditions]


@pytest.mark.parametrize("size", [(300, 400), (20, 24)])
def test_clip_token_is_the_stock_pipelines(size):
    """Of a picture larger and one smaller than CLIP's."""
    encoder = extra("transformers").CLIPVisionModelWithProjection(extra("transformers").CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, projection_dim=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=224, patch_size=32)).eval()
    pipeline = extra("diffusers").StableVideoDiffusionPipeline(
        vae=make_vae(), image_encoder=encoder, unet=None, scheduler=None,
        feature_extractor=extra("transformers").CLIPImageProcessor())
    image = np.array(Image.fromarray(data.astronaut()).resize(size[::-1]))
    with torch.no_grad():
        expected = pipeline._encode_image(Image.fromarray(image), torch.device("cpu"), 1, False)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None, None] / 255
    token = ClipToken(encoder)(pixels, torch.zeros_like(pixels[:, :, :1]))
    torch.testing.assert_close(token, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("channels", [9, 12])
def test_widening_changes_no_bit(channels):
    torch.manual_seed(0)
    unet = make_unet().eval()
    inputs, sigma, token = latents(channels), torch.tensor([0.1, 20.0]), torch.randn(2, 1, 32)
    with torch.no_grad():
        before = unet(inputs[:, :, :8], timestep(sigma), token, IDS).sample
        lora.widen(unet, channels)
        assert unet.config.in_channels == channels
        assert torch.equal(unet(inputs, timestep(sigma), token, IDS).sample, before)
        lora.add_lora(unet, 4)
        assert torch.equal(unet(inputs, timestep(sigma), token, IDS).sample, before)


def test_what_is_trained(svd_folder):
    network = StableVideoDiffusion(backbone=str(svd_folder), rank=4, target_modules=("to_v", "to_out.0"))
    trained = set(network.trained_state())
    layers = [name for name, module in network.unet.named_modules() if name.endswith((".to_v", ".to_out.0"))]
    assert trained == {f"unet.{name}.lora_{side}.default.weight" for name in layers for side in "AB"} | {
        "unet.conv_in.weight", "unet.conv_in.bias"}
    assert not any(p.requires_grad for part in (network.codec, network.token) for p in part.parameters())
    assert (network.frames, network.sigma_max) == (25, 700.0)
    with pytest.raises(InputError, match="target_modules: the UNet has no layer 'to_x'"):
        StableVideoDiffusion(backbone=str(svd_folder), target_modules=("to_v", "to_x"))


def gradients(network, clip, sigma):
    for parameter in network.parameters():
        parameter.grad = None
    output = network(latents(), sigma, network.conditions(*clip), IDS)
    output.float().square().mean().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_checkpointing_keeps_less_and_the_gradients(svd_folder, clip):
    network = StableVideoDiffusion(backbone=str(svd_folder), rank=4)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    sigma, found, kept = torch.tensor([0.3, 5.0]), [], []
    for on in (True, False):
        network.checkpointing(on)
        torch.manual_seed(1)
        found.append(gradients(network, clip, sigma))
        conditions = network.conditions(*clip)
        kept.append(memory.kept_bytes(network, lambda: network(latents(), sigma, conditions, IDS)))  # noqa: B023
    assert kept[0] < kept[1] / 4
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-4, atol=1e-7, msg=name)
    network.unet.enable_gradient_checkpointing()  # diffusers' own keeps what temporal blocks make
    assert kept[0] < memory.kept_bytes(network, lambda: network(latents(), sigma, conditions, IDS)) / 2
    copy.deepcopy(network).checkpointing(False)  # as averages of weights do


def test_frozen_weights_in_16_bits(svd_folder, clip):
    """What is trained stays in 32 bits, and gets about the gradients that 32 bits give."""
    sigma, found = torch.tensor([0.3, 5.0]), []
    for dtype in "float32", "bfloat16":
        torch.manual_seed(1)
        network = StableVideoDiffusion(backbone=str(svd_folder), rank=4, dtype=dtype)
        assert {p.dtype for p in network.trainable_parameters()} == {torch.float32}
        assert {p.dtype for p in network.unet.parameters() if not p.requires_grad} == {getattr(torch, dtype)}
        assert network.codec.vae.dtype == torch.float32
        torch.manual_seed(2)
        found.append(gradients(network, clip, sigma)["unet.conv_in.weight"])
    assert (found[1] - found[0]).norm() < 0.1 * found[0].norm()


def test_small_network(clip):
    with pytest.raises(InputError, match="widths: expected two or more multiples of 32 and of head_width 32, got 48"):
        SmallDiffusion(widths=(48,))
    network = SmallDiffusion(widths=(32, 64), condition="downsampled", codec=PixelShuffle(factor=4))
    output = network(torch.randn(2, 5, 48, 4, 6), torch.tensor([0.1, 3.0]), network.conditions(*clip), IDS)
    assert output.shape == (2, 5, 48, 4, 6)
    output.square().mean().backward()
    # The softmax over one token is 1 whatever its query and key are: these learn nothing.
    idle = {name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-8}
    assert all(name in idle for name, _ in network.named_parameters() if "attn2.to_q" in name or "attn2.to_k" in name)
    assert not any("attn2.to_v" in name or "attn1" in name and "weight" in name for name in idle)
