"""The cheaper ways to the same flow: RAFT with shared encoders, both directions at once."""
import pytest
import torch
from torchvision.models.optical_flow import raft_large

from gi.flow import winograd
from gi.flow.estimate import DIS, RAFT, Estimator, ZeroFlow
from gi.flow.guidance import FlowGuidance
from gi.flow.raft import InstanceNorm


@pytest.fixture(scope="module")
def raft():
    """Random weights, and statistics of a BatchNorm that has seen something."""
    torch.manual_seed(0)
    estimator = RAFT(weights=None, iterations=6)
    for module in estimator.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return estimator


def pictures(number, height, width):
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(1))
    picture = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return torch.cat([picture.roll((2 * i, 5 * i), dims=(2, 3)) for i in range(number)])


@pytest.mark.parametrize("size", [(128, 160), (136, 128)])
def test_raft_is_torchvisions(raft, size):
    """Odd sizes of the pyramid too: 136 pixels are 17, 8, 4 and 2."""
    images, first, second = pictures(3, *size), torch.tensor([0, 0, 1, 2, 1]), torch.tensor([1, 2, 0, 0, 1])
    network = raft_large(weights=None).eval()  # with torch's norms
    network.load_state_dict(raft.network.state_dict())
    with torch.no_grad():
        theirs = network(2 * images[first] - 1, 2 * images[second] - 1, num_flow_updates=6)[-1]
    ours = raft.between(images, first, second)
    assert theirs.abs().max() > 1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(raft(images[first], images[second]), ours, atol=1e-4, rtol=0)


def test_instance_norm_is_torchs():
    x = 3 * torch.randn(2, 5, 16, 24) + 7 * torch.randn(5, 1, 1)
    expected = torch.nn.InstanceNorm2d(5)(x.double())
    norm = InstanceNorm(5)
    for layout in torch.contiguous_format, torch.channels_last:
        result = norm(x.clone(memory_format=layout))
        assert result.is_contiguous(memory_format=layout)
        torch.testing.assert_close(result.double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("size", [(3, 3), (1, 5), (5, 1), (5, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_winograd_is_a_convolution(size, layout):
    x = torch.randn(2, 40, 11, 14).contiguous(memory_format=layout)
    weight = torch.randn(36, 40, *size)
    assert winograd.is_faster(weight) and not winograd.is_faster(weight[:9])
    expected = torch.nn.functional.conv2d(x.double(), weight.double())
    for dtype, tolerance in (torch.float64, 1e-12), (torch.float32, 1e-5):
        result = winograd.convolve(x.to(dtype), winograd.transformed(weight.to(dtype)), size)
        assert (result.stride(1) == 1) == (layout == torch.channels_last)
        assert (result - expected).abs().max() < tolerance * expected.abs().max()


class Counting(torch.nn.Module):
    """An encoder, and how many images it saw."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.seen = encoder, 0

    def forward(self, x):
        self.seen += len(x)
        return self.encoder(x)


def test_every_image_is_encoded_once(raft, monkeypatch):
    counters = {name: Counting(getattr(raft.network, name)) for name in ("feature_encoder", "context_encoder")}
    for name, counter in counters.items():
        monkeypatch.setitem(raft.network._modules, name, counter)
    monkeypatch.setattr(raft, "iterations", 1)
    image, sources = pictures(2, 128, 128), torch.stack([pictures(2, 128, 128)] * 3, dim=1)
    mask, source_masks = torch.zeros(2, 1, 128, 128), torch.zeros(2, 3, 1, 128, 128)
    flows, _ = FlowGuidance(estimator=raft, resolution=128)(image, mask, sources, source_masks)
    assert [counter.seen for counter in counters.values()] == [8, 8]  # two targets, six keyframes, not 24 and 12
    assert not flows.requires_grad and not flows.is_inference()
    # Gradients reach what is computed from the flow.
    shift = torch.zeros(1, requires_grad=True)
    (flows * shift).sum().backward()


class Difference(Estimator):
    """An estimator without `between`."""

    def forward(self, first, second):
        return (second - first)[:, :2]


@pytest.mark.parametrize("estimator", [DIS(preset="ultrafast"), ZeroFlow(), Difference()])
def test_pairs_of_every_estimator(estimator):
    images, first, second = pictures(3, 64, 72), torch.tensor([0, 2, 1]), torch.tensor([1, 0, 1])
    flow = estimator.between(images, first, second)
    assert torch.equal(flow, estimator(images[first], images[second]))
    assert estimator.between(images, first[:0], second[:0]).shape == (0, 2, 64, 72)
