"""Sampling against diffusers' scheduler and pipeline, guidance, and MultiDiffusion."""
import pytest
import torch

from gi.diffusion.backbone import SmallDiffusion
from gi.diffusion.codec import PixelShuffle
from gi.diffusion.condition import Condition
from gi.diffusion.network import Conditions, KeyframeDiffusion
from gi.diffusion.sampler import View, begin, denoise, guidance_scales, sigmas
from gi.diffusion.token import LinearToken
from gi.errors import InputError

diffusers = pytest.importorskip("diffusers")
FRAMES = 5


def scheduler():
    """As the files of SVD say."""
    return diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_type="continuous", use_karras_sigmas=True, sigma_min=0.002, sigma_max=700.0,
        timestep_spacing="leading", steps_offset=1, interpolation_type="linear")


def last(steps):
    *_, latents = steps
    return latents


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    network = SmallDiffusion(widths=(32, 32), token_dim=8, codec=PixelShuffle(factor=2)).eval()
    network.calls = 0
    network.register_forward_pre_hook(lambda module, inputs: setattr(module, "calls", module.calls + 1))
    return network


@pytest.fixture(scope="module")
def clip(small):
    """Conditions, noise and ids of nine frames, the first one a keyframe."""
    torch.manual_seed(1)
    masks = torch.zeros(1, 9, 1, 8, 8)
    masks[:, 1:, :, 2:6, 2:6] = 1
    with torch.no_grad():
        conditions = small.conditions(torch.rand(1, 9, 3, 8, 8), masks)
    return conditions, torch.randn(1, 9, 12, 4, 4), torch.tensor([[6.0, 127.0, 0.0]])


def part(conditions, start, stop):
    return Conditions(conditions.latents[:, start:stop], conditions.token)


@pytest.mark.parametrize("steps", [1, 2, 25, 30])
def test_noise_levels_and_steps_are_the_schedulers(steps):
    """Karras' levels, the first noise, and every step of a network that is a formula, to the bit."""
    reference, levels = scheduler(), sigmas(steps, 700.0)
    reference.set_timesteps(steps)
    assert torch.equal(levels, reference.sigmas)
    torch.manual_seed(0)
    noise = torch.randn(1, FRAMES, 4, 2, 2)

    def network(z, sigma, conditions, ids):
        return torch.sin(z / (sigma**2 + 1) ** 0.5) * sigma.log()

    sample = noise * (levels[0] ** 2 + 1) ** 0.5
    assert torch.equal(begin(noise, levels), sample)
    view = View(0, FRAMES, Conditions(torch.zeros(1, FRAMES, 1), torch.zeros(1, 1, 1)), torch.ones(FRAMES))
    for number, latents in enumerate(denoise(network, sample, [view], torch.zeros(1, 3), levels)):
        time = reference.timesteps[number]
        reference.scale_model_input(sample, time)
        sample = reference.step(network(sample, levels[number], None, None), time, sample).prev_sample
        assert torch.equal(latents, sample)
    assert number == steps - 1


@pytest.fixture(scope="module")
def pipeline():
    """diffusers' own of image to video, tiny, with random weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    unet = diffusers.UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), num_attention_heads=(1, 2),
        layers_per_block=1, cross_attention_dim=16, addition_time_embed_dim=8, projection_class_embeddings_input_dim=24,
        num_frames=FRAMES)
    vae = diffusers.AutoencoderKLTemporalDecoder(block_out_channels=(32, 32), layers_per_block=1,
                                                 down_block_types=("DownEncoderBlock2D",) * 2)
    encoder = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, projection_dim=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=16, patch_size=8))
    processor = transformers.CLIPImageProcessor(crop_size=16, size=16)
    made = diffusers.StableVideoDiffusionPipeline(vae=vae, image_encoder=encoder, unet=unet, scheduler=scheduler(),
                                                  feature_extractor=processor)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("highest", [1.0, 3.0])
def test_latents_are_those_of_the_pipeline(pipeline, highest):
    """Its 8-channel network, noise and conditions; the first frame is the keyframe."""
    seen = []
    handle = pipeline.unet.register_forward_pre_hook(lambda module, args, options: seen.append((args, options)),
                                                     with_kwargs=True)
    noise = torch.randn(1, FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = pipeline(picture, height=16, width=16, num_frames=FRAMES, num_inference_steps=6, latents=noise,
                            max_guidance_scale=highest, output_type="latent",
                            generator=torch.Generator().manual_seed(3)).frames
    handle.remove()
    (inputs, _), options = seen[0]
    conditions = Conditions(inputs[-1:, :, 4:], options["encoder_hidden_states"][-1:])
    network = KeyframeDiffusion(pipeline.unet.eval(), PixelShuffle(), Condition(), LinearToken(16))
    levels = sigmas(6, 700.0)
    view = View(0, FRAMES, conditions, guidance_scales([True] + [False] * (FRAMES - 1), 1, highest))
    latents = last(denoise(network, begin(noise, levels), [view], options["added_time_ids"][-1:], levels))
    assert len(seen) == 6 and latents.abs().max() > 1
    assert torch.equal(latents, expected)


def test_guidance_rises_with_the_distance():
    assert torch.equal(guidance_scales([True] + [False] * 24, 1, 3), torch.linspace(1, 3, 25))  # SVD's
    assert guidance_scales([False, True, False, False, True], 1, 3).tolist() == [1.5, 1, 1.5, 1.5, 1]
    assert guidance_scales([False] * 4, 1, 3).tolist() == [3] * 4 and guidance_scales([False], 1, 3).tolist() == [3]
    assert guidance_scales([True], 1, 3).tolist() == [1]


def test_guidance_of_one_is_one_pass(small, clip):
    conditions, noise, ids = clip
    batches = []
    handle = small.register_forward_pre_hook(lambda module, inputs: batches.append(len(inputs[0])))
    start, levels = begin(noise, sigmas(3, 80.0)), sigmas(3, 80.0)
    plain, guided, strong = (last(denoise(small, start, [View(0, 9, conditions, torch.full((9,), scale))], ids, levels))
                             for scale in (1.0, 1.0 + 1e-6, 3.0))
    handle.remove()
    assert batches == [1] * 3 + [2] * 6
    assert torch.allclose(plain, guided, atol=1e-3) and not torch.allclose(plain, strong, atol=1e-2)


def test_windows_are_averaged_where_they_overlap(small, clip):
    """One window is plain sampling; two are, at each step, the mean of what they estimate."""
    conditions, noise, ids = clip
    levels, scales, before = sigmas(3, 80.0), torch.ones(9), small.calls
    start = begin(noise, levels)
    plain = last(denoise(small, start, [View(0, 9, conditions, scales)], ids, levels))
    assert small.calls == before + 3
    apart = [View(0, 5, part(conditions, 0, 5), scales[:5]), View(5, 9, part(conditions, 5, 9), scales[5:])]
    both = last(denoise(small, start, apart, ids, levels))
    for view in apart:
        alone = last(denoise(small, start[:, view.start:view.stop],
                             [view._replace(start=0, stop=view.stop - view.start)], ids, levels))
        assert torch.equal(both[:, view.start:view.stop], alone)
    before = small.calls
    views = [View(0, 6, part(conditions, 0, 6), scales[:6]), View(3, 9, part(conditions, 3, 9), scales[3:])]
    mixed = next(denoise(small, start, views, ids, levels))
    single = [next(denoise(small, start[:, view.start:view.stop], [view._replace(start=0, stop=6)], ids, levels))
              for view in views]
    assert small.calls == before + 4
    assert torch.equal(mixed[:, :3], single[0][:, :3]) and torch.equal(mixed[:, 6:], single[1][:, 3:])
    torch.testing.assert_close(mixed[:, 3:6], (single[0][:, 3:] + single[1][:, :3]) / 2, rtol=1e-5, atol=1e-4)
    assert not torch.equal(mixed, next(denoise(small, start, [View(0, 9, conditions, scales)], ids, levels)))
    # A run that goes on after its first step ends where one without interruption does.
    again = denoise(small, next(denoise(small, start, [View(0, 9, conditions, scales)], ids, levels)),
                    [View(0, 9, conditions, scales)], ids, levels, start=1)
    assert torch.equal(last(again), plain)


def test_what_is_not_finite(small, clip):
    conditions, noise, ids = clip
    broken = Conditions(conditions.latents * torch.nan, conditions.token)
    levels = sigmas(3, 80.0)
    with pytest.raises(InputError, match="not finite"):
        last(denoise(small, begin(noise, levels), [View(0, 9, broken, torch.ones(9))], ids, levels))
    with pytest.raises(InputError, match="steps: expected at least 1, got 0"):
        sigmas(0, 80.0)
