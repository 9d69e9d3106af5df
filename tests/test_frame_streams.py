"""Encoding every frame of a video once: results of the plain call, with fewer passes."""
import pytest
import torch

from gi.errors import InputError
from gi.models.guided_copy import GuidedCopy
from gi.video.keyframes.frame_streams import FrameStreams
from tests.families import MODELS, random_inputs, tiny_generator

OFFSETS = [sign * step for step in (5, 10, 15, 20, 40, 60, 80) for sign in (-1, 1)]
KEPT = ["ours", "ours_no_ffc", "transformer"]


def guide(number, size=(40, 56), made=None):
    """Frame `number` of an endless video."""

    def make():
        if made is not None:
            made.append(number)
        return random_inputs(1, 0, *size, seed=number)[0]

    return number, make


def plain(generator, target, guides, flows, errors):
    with torch.no_grad():
        frames = [make() for _, make in guides]
        sources = torch.stack(frames, dim=1) if frames else target.new_zeros(1, 0, *target.shape[1:])
        return generator(target, sources, flows, errors)


def count_frames(module):
    """A list that grows by the number of frames of every call of `module`."""
    seen = []
    module.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    return seen


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_plain_call(name):
    generator = tiny_generator(name)
    streams = FrameStreams(generator)
    for shot, numbers in enumerate([[3, 5, 8], [5], [], [8, 9, 5, 3]]):  # in any order, known ones and new ones
        target, _, flows, errors = random_inputs(1, len(numbers), 40, 56, seed=100 + shot)
        guides = [guide(number) for number in numbers]
        expected = plain(generator, target, guides, flows, errors)
        torch.testing.assert_close(streams.predict(target, guides, flows, errors), expected, atol=1e-5, rtol=0)


def test_four_passes_per_target_instead_of_fourteen():
    generator = tiny_generator("ours")
    streams = FrameStreams(generator, capacity=40)
    encoded = count_frames(generator.encoder)
    made, passes = [], []
    for anchor in range(0, 400, 20):
        target, _, flows, errors = random_inputs(1, len(OFFSETS), 24, 24)
        before = streams.passes, sum(encoded)
        streams.predict(target, [guide(anchor + offset, (24, 24), made) for offset in OFFSETS], flows, errors)
        passes.append(streams.passes - before[0])
        assert sum(encoded) - before[1] == passes[-1] + 1  # and the target itself
    assert passes[0] == 14
    assert passes[8:] == [4] * 12
    assert len(made) == len(set(made)) == streams.passes == 14 + sum(passes[1:])


def test_plain_families_count_every_frame():
    streams = FrameStreams(tiny_generator("lama_spectralfuse"))
    target, _, flows, errors = random_inputs(1, 2, 40, 56)
    for _ in range(2):
        streams.predict(target, [guide(1), guide(2)], flows, errors)
    assert streams.passes == 4


@pytest.mark.parametrize("name", KEPT)
def test_forgets_the_least_used_and_what_it_is_told_to(name):
    streams = FrameStreams(tiny_generator(name), capacity=2)
    target, _, flows, errors = random_inputs(1, 1, 40, 56)
    made = []
    for number in (1, 2, 1, 3, 1, 2):  # 3 takes the place of 2
        streams.predict(target, [guide(number, made=made)], flows, errors)
    assert made == [1, 2, 3, 2]
    streams.keep({1, "never seen"})
    streams.predict(target, [guide(2, made=made)], flows, errors)
    assert made[4:] == [2] and streams.passes == 5


def test_more_guides_than_are_kept():
    generator = tiny_generator("ours")
    streams = FrameStreams(generator, capacity=1)
    target, _, flows, errors = random_inputs(1, 4, 40, 56)
    guides = [guide(number) for number in (4, 1, 4, 2)]
    expected = plain(generator, target, guides, flows, errors)
    torch.testing.assert_close(streams.predict(target, guides, flows, errors), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["ours", "lama"])
def test_what_does_not_fit_is_named(name):
    streams = FrameStreams(tiny_generator(name))
    target, _, flows, errors = random_inputs(1, 2, 40, 56)
    with pytest.raises(InputError, match="flows"):
        streams.predict(target, [guide(1)], flows, errors)
    with pytest.raises(InputError, match="capacity"):
        FrameStreams(streams.generator, capacity=0)


def test_bytes_of_a_kept_frame():
    """The figure in the documentation: 2C floats per feature and 2 x latents, in each of two blocks."""
    generator = tiny_generator("ours")
    stream = generator.encode_keyframes(random_inputs(1, 1, 64, 64)[1])
    tensors = [tensor for keys, values, detail in stream.blocks for tensor in (keys, values, *detail)]
    floats = sum(tensor.numel() for tensor in tensors)
    channels, (latents, width) = generator.encoder.out_channels, generator.latents.shape
    assert floats == generator.n_cross * (2 * channels * 64 * 64 // 8**2 + 2 * latents * width)
    assert all(tensor.untyped_storage().nbytes() == 4 * tensor.numel() for tensor in tensors)


def test_frames_alone_are_made_again():
    streams, made = FrameStreams(GuidedCopy(network=tiny_generator("ours", n_cross=0)).eval()), []
    target, _, flows, errors = random_inputs(1, 1, 40, 56)
    first, again = (streams.predict(target, [guide(1, made=made)], flows, errors) for _ in range(2))
    assert made == [1, 1] and torch.equal(first, again)
