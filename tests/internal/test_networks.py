"""What the references do not show of the networks: sizes, options, where gradients go."""
import numpy as np
import pytest
import torch
from torch import nn

from gi.errors import InputError
from gi.internal.layers import GatedConv, Layer
from gi.internal.networks import Base, CoarseToFine, Progressive, Stacked

SIZES = {Base: 1_629_951, Stacked: 2_895_390, CoarseToFine: 4_051_278, Progressive: 4_067_982}


@pytest.mark.parametrize("make", SIZES)
def test_parameters(make):
    with torch.device("meta"):
        network = make()
    assert sum(p.numel() for p in network.parameters()) == SIZES[make]


@pytest.mark.parametrize("height, width", [(61, 90), (1, 5), (64, 66)])
@torch.no_grad()
def test_any_size(height, width):
    """Also the result of a padded picture is that of the network, not of the padding's own pixels."""
    network = CoarseToFine().eval()
    image, hole = torch.rand(1, 3, height, width), torch.zeros(1, 1, height, width)
    hole[..., : height // 2 + 1, : width // 2] = 1
    stages = network(image, hole)
    assert len(stages) == 2 and all(stage.shape == image.shape for stage in stages)
    assert all(0 <= stage.min() and stage.max() <= 1 for stage in stages)
    rows, columns = -height % 4, -width % 4
    padded = nn.functional.pad(image, (0, columns, 0, rows), mode="replicate"), nn.functional.pad(
        hole, (0, columns, 0, rows))
    assert torch.equal(network(*padded)[1][..., :height, :width], stages[1])


@torch.no_grad()
@pytest.mark.parametrize("padding, least", [("reflect", 68), ("symmetric", 64)])
def test_size_that_a_padding_needs(padding, least):
    network = Base(padding=padding)
    network(torch.rand(1, 3, least, 72), torch.zeros(1, 1, least, 72))
    with pytest.raises(InputError, match=f"padding {padding}: the network's features are 18x{least // 4 - 1} here"):
        network(torch.rand(1, 3, least - 4, 72), torch.zeros(1, 1, least - 4, 72))


def test_nothing_in_the_hole_matters():
    hole = torch.zeros(1, 1, 32, 48)
    hole[..., 8:20, 10:30] = 1
    image = torch.rand(1, 3, 32, 48)
    for network in (Base(), Stacked()):
        a, b = (network(x, hole)[-1] for x in (image, image * (1 - hole)))
        assert torch.equal(a, b)


def test_second_stage_trains_the_first():
    network = Stacked()
    network(torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16))[1].sum().backward()
    assert network.coarse_net.conv1.weight.grad.abs().sum() > 0


def test_bilinear_enlargement():
    layer = GatedConv(1, Layer(1, kernel=1, up=True, activation=None), upsampling="bilinear")
    nn.init.ones_(layer.weight)
    x = torch.tensor([[0.0, 4.0]]).view(1, 1, 1, 2)
    assert layer(x).flatten().tolist() == [0, 1, 3, 4] * 2


def test_first_weights_are_glorots():
    weight = Base().coarse_net.conv6.weight.detach()
    limit = np.sqrt(6 / (9 * 96 + 9 * 192))  # channels before the gate
    assert weight.abs().max() <= limit and float(weight.std()) == pytest.approx(limit / np.sqrt(3), rel=0.01)
    assert not any(part.bias.any() for part in Base().coarse_net)


def test_priors_where_there_is_one():
    image, hole = torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    with pytest.raises(InputError, match="Base: takes no prior"):
        Base()(image, hole, image)
    with pytest.raises(InputError, match="Progressive: needs a prior"):
        Progressive()(image, hole)
    a, b = (Progressive.stages(network, 2 * image - 1, hole, prior)[1] for network in [Progressive()]
            for prior in (image, -image))
    assert not torch.equal(a, b)
