"""What holds for every family: any size, any number of keyframes, no sample depends on its neighbours."""
import pytest
import torch

from gi.config import instantiate
from gi.errors import InputError
from gi.models.aggregate import DeformableWrite
from gi.models.attention import PatchSoftmax, divisible_size
from gi.models.blocks import FourierPositions
from gi.models.ffc import FFC, from_spectrum, to_spectrum
from gi.models.keyframes import join
from tests.families import MODELS, generator_node, random_inputs, tiny_generator, tiny_node

GUIDED = [name for name in MODELS if "unguided" not in name and name not in ("lama", "lama_big")]
ALIGNED = ["ours", "ours_big", "ours_no_ffc"]


@pytest.mark.parametrize("name", MODELS)
def test_builds_at_full_size(name):
    with torch.device("meta"):
        generator = instantiate(generator_node(name))
    assert sum(p.numel() for p in generator.parameters()) > 1e7


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("t, height, width", [(0, 64, 64), (1, 37, 51), (3, 100, 72), (1, 17, 130), (2, 136, 200)])
def test_any_size_and_number_of_keyframes(name, t, height, width):
    generator = tiny_generator(name)
    with torch.no_grad():
        output = generator(*random_inputs(2, t, height, width))
    assert output.shape == (2, 3, height, width)
    assert output.min() >= 0 and output.max() <= 1
    assert output.std() > 1e-3  # of the image as a whole, not a constant


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_does_not_depend_on_its_neighbours(name):
    generator = tiny_generator(name)
    inputs = random_inputs(3, 2, 64, 48)
    with torch.no_grad():
        together = generator(*inputs)
        alone = torch.cat([generator(*(x[i : i + 1] for x in inputs)) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_order_of_keyframes_does_not_matter(name):
    generator = tiny_generator(name)
    target, *rest = random_inputs(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            generator(target, *rest), generator(target, *(x[:, [2, 0, 1]] for x in rest)), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("name", MODELS)
def test_keyframes_matter_where_they_should(name):
    generator = tiny_generator(name)
    target, sources, flows, errors = random_inputs(1, 2, 64, 64)
    with torch.no_grad():
        first, second = (generator(target, frames, flows, errors) for frames in (sources, 1 - sources))
    difference = (first - second).abs().max()
    assert difference > 1e-3 if name in GUIDED else difference == 0


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient(name):
    generator = tiny_generator(name).train()
    loss = generator(*random_inputs(2, 2, 64, 64)).square().mean()
    loss.backward()
    without = [key for key, p in generator.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # A bias before a BatchNorm is subtracted again; rounding may leave exactly nothing of its gradient.
    assert [key for key in without if not key.endswith("bias")] == []


@pytest.mark.parametrize("name", ALIGNED)
def test_flow_matters_only_to_the_deformable_write(name):
    target, sources, flows, errors = random_inputs(1, 2, 64, 64)
    for deformable, changes in ((True, True), (False, False)):
        generator = tiny_generator(name, deformable_write=deformable)
        with torch.no_grad():
            difference = generator(target, sources, flows, errors) - generator(target, sources, 0 * flows, errors)
        assert (difference.abs().max() > 1e-4) == changes


def test_keyframe_stream_does_not_depend_on_the_target():
    generator = tiny_generator("ours")
    target, sources, flows, errors = random_inputs(2, 2, 64, 64)
    with torch.no_grad():
        together = generator.encode_keyframes(sources)
        one_by_one = [generator.encode_keyframes(sources[:, [t]]) for t in range(2)]
        for features, joined in zip(together.blocks, join(one_by_one).blocks, strict=True):
            torch.testing.assert_close(tuple(features), tuple(joined), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            generator.predict(target, together, flows, errors), generator(target, sources, flows, errors)
        )


def test_no_keyframes_equals_switches_off():
    """Without keyframes, the network with and the one without the cross-frame parts are the same function."""
    guided, plain = tiny_generator("ours"), tiny_generator("ours_unguided")
    plain.load_state_dict({key: value for key, value in guided.state_dict().items() if "deformable" not in key})
    inputs = random_inputs(1, 0, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(guided(*inputs), plain(*inputs))


def test_keyframe_equal_to_the_target_without_motion():
    """Zero flow and error, keyframes all equal to the target: the softmax over keyframes must not matter."""
    torch.manual_seed(0)
    write = DeformableWrite(8)
    target = torch.rand(2, 8, 12, 16)
    sources = target[:, None].expand(-1, 3, -1, -1, -1)
    flows, errors = torch.zeros(2, 3, 2, 96, 128), torch.zeros(2, 3, 1, 96, 128)
    value = torch.nn.functional.conv2d(target, write.value.weight[:, :8], write.value.bias)
    torch.testing.assert_close(write(target, sources, flows, errors), target + value)


def test_deformable_write_aligns():
    """A keyframe that is the target shifted by two feature pixels, and a flow that says so, equals no shift at all."""
    torch.manual_seed(0)
    write = DeformableWrite(4)
    target = torch.rand(1, 4, 16, 16)
    flows = torch.zeros(1, 1, 2, 16, 16)
    errors = torch.zeros(1, 1, 1, 16, 16)
    flows[:, :, 0] = 2
    shifted = write(target, target.roll(2, dims=3)[:, None], flows, errors)
    still = write(target, target[:, None], 0 * flows, errors)
    torch.testing.assert_close(shifted[..., :-2], still[..., :-2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_ffc_shares(share):
    layer = FFC(channels=8, share=share)
    assert layer(torch.rand(2, 8, 9, 12)).shape == (2, 8, 9, 12)
    tiny_generator("ours", ffc_share=share)(*random_inputs(1, 1, 32, 32))


def test_spectrum_round_trip_and_order():
    x = torch.rand(2, 3, 9, 10)
    spectrum = to_spectrum(x)
    assert spectrum.shape == (2, 6, 9, 6)
    torch.testing.assert_close(from_spectrum(spectrum, x), x)
    expected = torch.fft.rfft2(x[:, 1], norm="ortho")
    torch.testing.assert_close(spectrum[:, 2], expected.real)
    torch.testing.assert_close(spectrum[:, 3], expected.imag)


def test_patch_softmax_sums_to_one_in_every_patch():
    weights = PatchSoftmax(4)(torch.randn(2, 8, 12, 20))
    sums = weights.unflatten(-1, (4, 5)).unflatten(-3, (4, 3)).sum(dim=(-3, -1))
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_sizes_are_rounded_as_the_original_does_and_never_to_zero():
    assert divisible_size((25, 33), 16) == (32, 32)
    assert divisible_size((40, 24), 16) == (32, 32)  # 2.5 and 1.5: half to even
    assert divisible_size((2, 7), 16) == (16, 16)


def test_fourier_positions():
    features = FourierPositions(in_channels=1, out_channels=1).features(3, 5)
    assert features.shape == (1, 258, 3, 5)
    torch.testing.assert_close(features[0, 0, :, 0], torch.tensor([-1.0, 0.0, 1.0]))  # y first
    torch.testing.assert_close(features[0, 1, 0], torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))
    torch.testing.assert_close(features[0, 2 + 64, 0, 1], torch.sin(torch.tensor(-0.5 * torch.pi)))  # sin(pi * 1 * x)


def test_no_width_is_assumed():
    generator = tiny_generator("ours", ngf=12, latent_width=20, n_latents=9, heads=4, n_down=2)
    assert generator(*random_inputs(1, 2, 40, 40)).shape == (1, 3, 40, 40)


@pytest.mark.parametrize(
    "params, word",
    [
        ({"n_latents": 15}, "n_latents"),
        *(({name: 0}, f"{name}: expected at least 1") for name in ("ngf", "heads", "n_latents", "latent_width")),
        ({"n_down": -1}, "n_down"),
        ({"heads": 7}, "heads"),
        ({"n_cross": 9}, "n_cross"),
        ({"ffc_share": 1.5}, "ffc_share"),
    ],
)
def test_bad_numbers_name_the_parameter(params, word):
    with pytest.raises(InputError, match=word):
        instantiate(tiny_node("ours", **params))


def test_bad_shapes_name_the_tensor():
    generator = tiny_generator("ours")
    target, sources, flows, errors = random_inputs(1, 2, 64, 64)
    with pytest.raises(InputError, match="flows"):
        generator(target, sources, flows[:, :1], errors)
    with pytest.raises(InputError, match="sources"):
        generator(target, sources[..., :32], flows, errors)
    with pytest.raises(InputError, match="target"):
        generator(target[:, :3], sources, flows, errors)
    with pytest.raises(InputError, match="too small"):
        generator(*random_inputs(1, 0, 8, 64))
