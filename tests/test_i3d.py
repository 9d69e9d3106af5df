import numpy as np
import pytest
import torch

from gi.errors import InputError
from gi.metrics import video
from gi.metrics.i3d import ENDPOINTS, I3D, RGB_IMAGENET, VideoFeature


@pytest.fixture(scope="module")
def weights(reference, tmp_path_factory):
    """A file with the names and shapes of rgb_imagenet.pt."""
    path = tmp_path_factory.mktemp("i3d") / "rgb_imagenet.pt"
    state = {name: torch.from_numpy(np.asarray(value)) for name, value in reference.fill.state_dict("i3d").items()}
    torch.save({name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}, path)
    return path


@pytest.fixture(scope="module")
def network(weights):
    return I3D(weights=str(weights))


def frames(count, seed=0, size=(32, 40)):
    return torch.rand(1, count, 3, *size, generator=torch.Generator().manual_seed(seed))


def test_outputs_are_the_originals(network, reference):
    a, b = (torch.from_numpy(reference.fill.image(f"i3d/{name}", 1, 3, 10, 64, 96)).transpose(1, 2) for name in "ab")
    b = 0.8 * a + 0.2 * b
    expected = reference.load("i3d")
    found = network(torch.cat([a, b]))
    assert tuple(found) == ENDPOINTS
    torch.testing.assert_close(video.video_feature(found)[:1], torch.from_numpy(expected["vfid_feature"]), rtol=1e-5,
                               atol=1e-5)
    first, second = ({name: value[i:i + 1] for name, value in found.items()} for i in range(2))
    assert video.pvcs(first, second).item() == pytest.approx(float(expected["pvcs"]), rel=1e-5)
    layers = [video.pvcs({name: first[name]}, {name: second[name]}).item() for name in ENDPOINTS]
    assert layers == pytest.approx(expected["pvcs_layers"].tolist(), rel=1e-5)
    assert video.pvcs(first, first).item() == 0


@pytest.mark.parametrize(("count", "size", "expected"), [
    (1, (32, 32), [(1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1)]),
    (10, (45, 70), [(5, 12, 18), (5, 6, 9), (3, 3, 5), (2, 2, 3)]),
])
def test_padding_rounds_sizes_up(network, count, size, expected):
    found = network(frames(count, size=size))
    assert [tuple(value.shape[2:]) for value in found.values()] == expected


@pytest.mark.parametrize(("count", "piece"), [(1, 4), (6, 1), (117, 16), (122, 16)])
def test_pieces_give_the_feature_of_the_whole(network, count, piece):
    clip = torch.cat([frames(count, seed=1), frames(count, seed=2)])
    feature = VideoFeature(network, count)
    most = 0
    for start in range(0, count, piece):
        feature.push(clip[:, start:start + piece])
        most = max([most, *(layer.waiting.shape[2] for layer in feature.layers if layer.waiting is not None)])
    expected = video.video_feature(network(clip))
    torch.testing.assert_close(feature.result(), expected, rtol=1e-5, atol=1e-5)
    assert most <= 8  # frames kept between layers, however long the video
    if count == 117:  # the mean of windows is something else
        windows = [video.video_feature(network(clip[:, start:start + 10])) for start in range(0, 100, 20)]
        assert (sum(windows) / len(windows) - expected).abs().max() > 1e-2


def test_number_of_frames_is_held_to(network):
    feature = VideoFeature(network, 3)
    feature.push(frames(2))
    with pytest.raises(InputError, match="expected 3 frames, got 2"):
        feature.result()
    with pytest.raises(InputError, match="expected 3 frames, got more"):
        feature.push(frames(2))
    with pytest.raises(InputError, match="at least one frame"):
        VideoFeature(network, 0)


@pytest.mark.parametrize(("shape", "message"), [
    ((1, 3, 10, 32, 32), r"\(N, T, 3, H, W\), got \(1, 3, 10, 32, 32\)"),
    ((1, 0, 3, 32, 32), r"\(N, T, 3, H, W\)"),
    ((3, 32, 32), r"\(N, T, 3, H, W\)"),
    ((1, 2, 3, 31, 64), "at least 32 x 32 pixels, got 64 x 31"),
])
def test_other_shapes(network, shape, message):
    with pytest.raises(InputError, match=message):
        network(torch.zeros(shape))


def test_frozen_and_in_full_precision(network):
    clip = frames(2).requires_grad_()
    found = network(clip)
    assert not any(parameter.requires_grad for parameter in network.parameters()) and not network.train().training
    assert not found["Mixed_5c"].requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(network(clip)["Mixed_5c"], found["Mixed_5c"])


def test_files(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"{RGB_IMAGENET.path}: no such file; gi fetch i3d .*pytorch-i3d"):
        I3D()
    with pytest.raises(InputError, match="SHA-256 is .*, expected 00000000"):
        I3D(weights=str(weights), sha256="00000000")
    state = torch.load(weights, weights_only=True)
    state["Mixed_3b.b0.conv3d.extra"] = state.pop("Mixed_3b.b0.conv3d.weight")
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(InputError, match="1 missing: Mixed_3b.b0.conv3d.weight; 1 unexpected: .*extra"):
        I3D(weights=str(tmp_path / "other.pt"))
