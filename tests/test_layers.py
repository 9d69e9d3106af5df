"""The motion of a hole's layer, against motions that are known exactly."""
import pytest
import torch

from gi.flow.layers import background_flow
from gi.video.keyframes.flows import complete

SIZE = 96, 160


def scene(still=True):
    """Flow there and back with a figure that passes the hole's left edge 3 pixels a frame, the image, and the hole."""
    x = torch.arange(SIZE[1]).float().expand(1, *SIZE)
    background = torch.zeros(1, 2, *SIZE) if still else torch.stack([0.02 * (x - 70), 0 * x + 0.5], dim=1)
    flow, hole = background.clone(), torch.zeros(1, 1, *SIZE)
    flow[..., 20:80, 36:64] = 3.0
    hole[..., 30:66, 60:100] = 1
    torch.manual_seed(0)
    return background, flow, torch.rand(1, 3, *SIZE), hole


@pytest.mark.parametrize("still", [True, False])
def test_a_hole_moves_as_the_background_where_a_figure_passes_its_edge(still):
    background, flow, image, hole = scene(still)
    result = complete(flow, -flow, image, hole, image, hole)
    inside = (hole > 0).expand_as(flow)
    assert (result - background)[inside].abs().max() < 0.2
    if still:
        assert (result[inside] == 0).all()  # nothing drifts over many frames


def test_waves_are_no_layer():
    _, _, image, hole = scene()
    y, x = torch.meshgrid(*(torch.arange(length).float() for length in SIZE), indexing="ij")
    flow = torch.stack([4 * torch.sin(x / 9), 4 * torch.cos(y / 7)])[None]
    assert background_flow(flow, -flow, hole) is None
    everything = torch.ones_like(hole)
    assert background_flow(flow, -flow, everything) is None
