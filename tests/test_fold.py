"""Generators prepared for prediction are the same functions."""
import pytest
import torch
from torch import nn

from gi.flow.warp import warp
from gi.models.aggregate import DeformableWrite, softmax_mean, warp_rows
from gi.models.fold import QuadConv, fold_sequence, prepare_for_inference
from gi.video.keyframes.frame_streams import FrameStreams
from tests.families import MODELS, random_inputs, tiny_generator

SHAPES = [(2, 2, 64, 64), (1, 0, 64, 48), (1, 3, 37, 51), (2, 1, 100, 72)]


def trained(name, **params):
    """A tiny generator whose BatchNorms do something."""
    generator = tiny_generator(name, **params)
    for norm in generator.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(std=0.3)
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
    return generator


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_ffc_shares(share):
    generator = trained("ours", ffc_share=share)
    inputs = random_inputs(1, 1, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(prepare_for_inference(generator)(*inputs), generator(*inputs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_same_output(name):
    generator = trained(name)
    prepared = prepare_for_inference(generator)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in prepared.modules())
    for shape in SHAPES:
        inputs = random_inputs(*shape)
        with torch.inference_mode():
            expected = generator(*inputs)
            torch.testing.assert_close(prepared(*inputs), expected, atol=1e-5, rtol=0)
        assert expected.std() > 1e-3


def test_original_is_left_alone():
    generator = trained("ours").train()
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    prepared = prepare_for_inference(generator)
    assert generator.training and not prepared.training
    assert all(p.requires_grad for p in generator.parameters())
    assert not any(p.requires_grad for p in prepared.parameters())
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())
    assert prepare_for_inference(prepared) is prepared


def test_kept_streams():
    generator = trained("ours")
    target, sources, flows, errors = random_inputs(1, 2, 40, 56)
    streams = FrameStreams(prepare_for_inference(generator))
    guides = [(t, lambda t=t: sources[:, t]) for t in range(2)]
    with torch.no_grad():
        expected = generator(target, sources, flows, errors)
    torch.testing.assert_close(streams.predict(target, guides, flows, errors), expected, atol=1e-5, rtol=0)


def test_transposed_and_grouped_convolutions():
    layers = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 3, stride=2), nn.BatchNorm2d(6),
    )
    layers.train()(torch.randn(4, 4, 9, 9))  # statistics other than 0 and 1
    layers.eval()
    x = torch.randn(2, 4, 9, 11)
    with torch.no_grad():
        torch.testing.assert_close(fold_sequence(layers)(x), layers(x), atol=1e-5, rtol=1e-5)


def test_last_convolution_by_quads():
    conv = nn.Conv2d(5, 3, 7, padding=3, padding_mode="reflect")
    x = torch.randn(2, 5, 12, 18)
    torch.testing.assert_close(QuadConv(conv)(x), conv(x), atol=1e-5, rtol=1e-5)


# Keyframes one after the other ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1, 2, 14])
def test_deformable_write_one_keyframe_at_a_time(t):
    torch.manual_seed(0)
    write = DeformableWrite(6)
    target, sources = torch.randn(2, 6, 9, 7), 3 * torch.randn(2, t, 6, 9, 7)
    flows, errors = 8 * torch.randn(2, t, 2, 72, 56), torch.rand(2, t, 1, 72, 56)
    together = write(target, sources, flows, errors).detach()
    with torch.no_grad():
        torch.testing.assert_close(write(target, sources, flows, errors), together, atol=1e-6, rtol=1e-6)


def test_softmax_mean_of_any_magnitude():
    queries = torch.tensor([-300.0, 200.0, 199.0, -100.0])
    values = torch.tensor([5.0, 1.0, 2.0, 9.0])
    expected = (queries.softmax(0) * values).sum()
    torch.testing.assert_close(softmax_mean(zip(queries, values, strict=True)), expected)


@pytest.mark.parametrize("size", [(9, 13), (1, 5), (1, 1)])
def test_warp_by_rows(size):
    torch.manual_seed(0)
    x, flow = torch.randn(2, 5, *size), 4 * torch.randn(2, 2, *size)
    flow[0, :, 0, 0] = 0
    torch.testing.assert_close(warp_rows(x, flow), warp(x, flow), atol=1e-5, rtol=0)
    flow[:] = 1e9  # nowhere near the image
    torch.testing.assert_close(warp_rows(x, flow), warp(x, flow))


# Compilation ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ours", "transformer", "lama_spectralfuse"])
def test_one_graph(name):
    """No graph breaks; one graph for each number of keyframes, none for what has been seen."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    generator = tiny_generator(name, n_blocks=2)
    compiled = torch.compile(generator, fullgraph=True, dynamic=False, backend=backend)
    for t, count in ((2, 1), (0, 2), (2, 2)):
        inputs = random_inputs(1, t, 64, 48, seed=t)
        with torch.no_grad():
            torch.testing.assert_close(compiled(*inputs), generator(*inputs), atol=1e-5, rtol=0)
        assert len(graphs) == count
