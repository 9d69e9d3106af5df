import dataclasses
import hashlib

import lpips
import numpy as np
import pytest
import torch
from pytorch_fid import inception
from torchvision.models import alexnet, inception_v3

from gi.errors import InputError
from gi.media import io
from gi.metrics import features
from gi.metrics.features import ALEXNET, INCEPTION, LPIPS, VGG16, InceptionFeatures
from gi.metrics.folder import find_pairs, score_pairs
from gi.metrics.image import ImageMetrics
from gi.metrics.video_scores import VideoScores

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchvision")  # of the old `pretrained`, which lpips uses


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, an empty cache of torch.hub, and no way to the network."""
    def refuse(*args, **kwargs):
        raise AssertionError("tried to download")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(inception, "load_state_dict_from_url", refuse)


def images(seed=0, size=(60, 75)):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed))


def random_inception():
    """Weights with pytorch-fid's names and lively activations (torchvision's own initial ones die out)."""
    torch.manual_seed(0)
    state = inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False).state_dict()
    for name, value in state.items():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(value)
    return state


def saved(state, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def test_inception_is_that_of_pytorch_fid(tmp_path, monkeypatch):
    state = random_inception()
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *args, **kwargs: state)
    theirs = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    path, sha256 = saved(state, tmp_path / "inception.pth")
    ours = InceptionFeatures(weights=path, sha256=sha256)
    for size in (60, 75), (299, 299):
        expected = theirs(images(size=size))[0].flatten(1)
        assert expected.std() > 1e-2 and (expected[0] - expected[1]).abs().max() > 1e-2
        found = ours(images(size=size))
        assert found.shape == (2, ours.dimensions) == (2, 2048) and found.dtype == torch.float32
        torch.testing.assert_close(found, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ours(images(size=size)), expected)
    assert not any(parameter.requires_grad for parameter in ours.parameters()) and not ours.train().training


@pytest.mark.parametrize(("net", "least"), [("alex", 31), ("vgg", 16)])
def test_images_smaller_than_a_network(net, least, tmp_path):
    """In evaluations of pictures they are left out; elsewhere the error names them."""
    network = LPIPS(net=net, weights=None)
    with pytest.raises(InputError, match=f"least {least} x {least} pixels, got 40 x {least - 1}"):
        network(*torch.zeros(2, 1, 3, least - 1, 40))
    frames = [(np.zeros((20, 12, 3), np.uint8), np.ones((20, 12), np.uint8), np.zeros((20, 12, 3), np.uint8))] * 3
    with pytest.raises(InputError, match="film: LPIPS: expected images of at least"):
        VideoScores(metrics=["lpips"], lpips=network).update("film", frames)
    for name, side in ("a", least), ("b", least - 1):
        for folder in "tp":
            io.write_image(tmp_path / folder / f"{name}.png", np.zeros((40, side, 3), np.uint8))
    pairs, _ = find_pairs(tmp_path / "t", tmp_path / "p")
    scores, problems = score_pairs(pairs, ImageMetrics(metrics=["lpips"], lpips=network))
    assert [image["name"] for image in scores.images] == ["a"] and f"at least {least} a side" in problems["b"]
    assert InceptionFeatures(weights=None)(torch.zeros(1, 3, 1, 1)).shape == (1, 2048)  # it enlarges them


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_that_of_the_package(net):
    torch.manual_seed(0)
    ours = LPIPS(net=net, weights=None)
    theirs = lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False)
    theirs.net.load_state_dict(ours.network.net.state_dict())
    a, b = images(1), images(2)
    expected = theirs(2 * a - 1, 2 * b - 1).flatten()  # with the heads that come with the package
    assert (expected > 0).all() and expected[0] != expected[1]
    torch.testing.assert_close(ours(a, b), expected)
    assert ours(a, a).tolist() == [0, 0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ours(a, b), expected)
    ours(a.requires_grad_(), b).sum().backward()
    assert a.grad.abs().sum() > 0


def test_lpips_takes_the_backbone_from_torchvisions_file(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = alexnet(weights=None, num_classes=2).eval()
    path, sha256 = saved(network.state_dict(), tmp_path / "torch/hub/checkpoints/alexnet-owt-7be5be79.pth")
    a, b = images(1), images(2)
    scores = LPIPS(net="alex", weights=path, sha256=sha256)
    wanted = network.features[:2](scores.network.scaling_layer(2 * a - 1))
    torch.testing.assert_close(scores.network.net(scores.network.scaling_layer(2 * a - 1))[0], wanted)
    wanted = network.features[:12](scores.network.scaling_layer(2 * a - 1))
    torch.testing.assert_close(scores.network.net(scores.network.scaling_layer(2 * a - 1))[4], wanted)
    with pytest.raises(InputError, match="SHA-256.*expected 7be5be79"):  # the cache of torch.hub is found, and checked
        LPIPS(net="alex")
    monkeypatch.setitem(features._BACKBONES, "alex", dataclasses.replace(ALEXNET, sha256=sha256))
    torch.testing.assert_close(LPIPS(net="alex")(a, b), scores(a, b), rtol=0, atol=0)
    other, sha256 = saved({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="misshapen: slice1.0.weight"):
        LPIPS(net="alex", weights=other, sha256=sha256)


@pytest.mark.parametrize(("build", "about"), [
    (InceptionFeatures, INCEPTION), (LPIPS, VGG16), (lambda: LPIPS(net="alex"), ALEXNET),
    (lambda: ImageMetrics(metrics=["fid"]), INCEPTION), (lambda: ImageMetrics(metrics=["ssim", "lpips"]), VGG16),
])
def test_missing_weights_say_in_one_line_what_to_do(build, about):
    with pytest.raises(InputError) as error:
        build()
    message = str(error.value)
    assert "\n" not in message
    for part in about.path, about.origin, about.sha256, "put it at":
        assert part in message


def test_per_pixel_metrics_need_no_weights():
    ImageMetrics(metrics=["ssim", "psnr", "l1"])


def test_unknown_backbone():
    with pytest.raises(InputError, match="expected one of vgg, alex, got 'vgg16'"):
        LPIPS(net="vgg16", weights=None)


def test_untrained_networks_inside_the_metric():
    metric = ImageMetrics(metrics=["fid", "lpips"], inception=InceptionFeatures(weights=None),
                          lpips=LPIPS(net="alex", weights=None))
    a, b = images(1), images(2)
    metric.update(b, a, torch.ones(2, 1, 60, 75), ["a", "b"])
    scores = metric.compute()
    torch.testing.assert_close(torch.tensor([row["raw/lpips"] for row in scores.images]).float(),
                               metric.networks["lpips"](b, a))
    assert scores.totals["composite"]["fid"] == scores.totals["raw"]["fid"] >= 0
    assert metric.state_dict() == {} and list(metric.parameters()) == []
