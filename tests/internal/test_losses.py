"""What the references do not show of the losses."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from gi.errors import InputError
from gi.internal import ambiguity
from gi.internal.ambiguity import Ambiguity, feature_loss
from gi.internal.objective import TwoPhases
from gi.internal.reconstruction import Reconstruction
from gi.internal.stabilisation import RANGES, Stabilisation, matrices, move


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nearest_form_is_the_papers():
    a, b = torch.randn(2, 2, 5, 3, 4, generator=random())
    unit = [x.flatten(2).numpy() / np.linalg.norm(x.flatten(2).numpy(), axis=1, keepdims=True) for x in (a, b)]
    expected = np.mean([1 - (x.T @ y).max(axis=1) for x, y in zip(*unit, strict=True)])
    assert float(feature_loss(a, b, form="nearest")) == pytest.approx(expected, abs=1e-6)


def test_rows_in_pieces_give_the_same_gradients(monkeypatch):
    b = torch.randn(1, 6, 7, 9, generator=random(1))
    for form in ("contextual", "nearest"):
        gradients = []
        for entries in (2**20, 200):
            monkeypatch.setattr(ambiguity, "_ENTRIES", entries)
            a = torch.randn(1, 6, 7, 9, generator=random(2)).requires_grad_()
            feature_loss(a, b, form=form).backward()
            gradients.append(a.grad)
        assert gradients[0].abs().max() > 0
        assert torch.allclose(*gradients, atol=1e-7)


def test_features_in_strips_are_the_networks(monkeypatch):
    """Of an odd size, in strips of two rows and in one, with gradients."""
    term = Ambiguity(weights=None)
    results = []
    for activations in (None, 1, 2**21):
        image = torch.rand(2, 3, 37, 26, generator=random()).requires_grad_()
        if activations is None:
            features = term.features(2 * image)
        else:
            monkeypatch.setattr(ambiguity, "_ACTIVATIONS", activations)
            features = ambiguity.in_strips(term.features, 2 * image)
        features.square().sum().backward()
        results.append((features.detach(), image.grad))
    for features, gradient in results[1:]:
        assert torch.allclose(features, results[0][0], rtol=1e-4, atol=1e-6)
        assert torch.allclose(gradient, results[0][1], rtol=1e-4, atol=1e-6 * gradient.abs().max())


def test_features_in_the_hole_can_be_left_out():
    a, b = torch.randn(2, 1, 6, 4, 8, generator=random())
    known = torch.zeros(1, 1, 4, 8, dtype=torch.bool)
    known[..., 3:] = True
    expected = feature_loss(a[..., 3:], b[..., 3:], form="nearest")
    assert float(feature_loss(a, b, form="nearest", known=known)) == pytest.approx(float(expected), abs=1e-6)
    changed = a.clone()
    changed[..., :3] += 1
    assert feature_loss(a, b, known=known) == feature_loss(changed, b, known=known) != feature_loss(a, b)


def test_without_vgg_the_term_says_so_and_the_rest_runs(tmp_path, caplog):
    with caplog.at_level("INFO"):
        term = Ambiguity(weights=str(tmp_path / "vgg19-dcbb9e9d.pth"))
    assert [record.getMessage().startswith("ambiguity: left out, ") for record in caplog.records] == [True]
    assert "\n" not in caplog.text.strip()
    objective = TwoPhases(terms={"reconstruction": Reconstruction()}, regularisers={"ambiguity": term})
    image = torch.rand(1, 3, 8, 8)
    assert objective.generator([image], {"image": image, "mask": image[:, :1], "step": 9}).keys() == {"reconstruction"}


def test_vgg_of_another_kind_is_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "vgg.pth")
    with pytest.raises(InputError, match="SHA-256"):
        Ambiguity(weights=str(tmp_path / "vgg.pth"))


def test_moving_is_scipys():
    """Rotation, zoom, shear and shift together, about the centre (W/2, H/2)."""
    image = torch.rand(1, 1, 20, 31, generator=random())
    values = torch.tensor([[2.0], [-1.0], [2.0], [1.05], [1.0], [-1.0]])
    matrix = matrices(*values, size=(31, 20))
    (a, b, c), (d, e, f) = matrix[0].tolist()
    expected = ndimage.affine_transform(image[0, 0].numpy(), [[e, d], [b, a]], [f, c], order=1, mode="grid-constant")
    assert np.abs(move(image, matrix)[0, 0].numpy() - expected).max() < 1e-4
    still = matrices(*torch.tensor([[0.0], [0], [2], [1.05], [0], [0]]), size=(31, 20))
    assert torch.allclose(still[0] @ torch.tensor([15.5, 10.0, 1.0]), torch.tensor([15.5, 10.0]), atol=1e-5)


@pytest.mark.parametrize("ranges", RANGES)
def test_changes_stay_in_their_ranges(ranges):
    term = Stabilisation(ranges=ranges)
    shift, rotation, zoom, *_ = RANGES[ranges]
    matrix = term.draw(500, (40, 60), random())
    scale = torch.linalg.det(matrix[:, :, :2]).sqrt()
    assert abs(scale - 1).max() < zoom + 0.005 and scale.std() > zoom / 3
    centre = torch.tensor([20.0, 30, 1] if ranges == "release" else [30.0, 20, 1])
    moved = (matrix @ centre - centre[:2]).abs().amax()
    assert 0.9 * shift < moved < 1.2 * shift


def test_a_steady_filling_costs_nothing():
    """One that always finds the truth, also of the changed image, is steady; one that ignores the change is not."""
    term = Stabilisation(weight=1)
    x = torch.rand(2, 3, 40, 56, generator=random())
    image, mask = F.avg_pool2d(F.pad(x, (2,) * 4, mode="reflect"), 5, 1), torch.zeros(2, 1, 40, 56)
    mask[..., 10:20, 15:30] = 1
    batch = {"image": image, "mask": mask, "hole": mask, "random": random(3)}
    assert term([image], batch | {"fill": lambda moved, hole: [moved]}) == 0
    assert term([image], batch | {"fill": lambda moved, hole: [image]}) > 0.01


@pytest.mark.parametrize("ranges", RANGES)
def test_what_the_hole_hides_has_no_influence(ranges):
    """In the paper's form; the release takes a pixel that is partly from the hole for known."""
    term, results = Stabilisation(ranges=ranges), []
    mask = torch.zeros(1, 1, 40, 56)
    mask[..., 10:20, 15:30] = 1
    image = torch.rand(1, 3, 40, 56, generator=random())
    for inside in (0, 1):
        shown = image * (1 - mask) + inside * mask
        batch = {"image": shown, "mask": mask, "hole": mask, "random": random(3)}
        results.append(term([shown * 0], batch | {"fill": lambda moved, hole: [2 * moved * (1 - hole)]}))
    assert (results[0] == results[1]) == (ranges == "paper")


def test_second_phase():
    objective = TwoPhases(terms={"reconstruction": Reconstruction()}, regularise_from=5,
                          regularisers={"again": Reconstruction(weight=0.5), "off": None})
    image = torch.rand(1, 3, 8, 8)
    batch = {"image": image, "mask": image[:, :1]}
    assert objective.generator(image[None], batch | {"step": 4}).keys() == {"reconstruction"}
    values = objective.generator(image[None] / 2, batch | {"step": 5})
    assert values["again"] == values["reconstruction"] / 2 > 0
    assert [objective.starts_anew(step) for step in (0, 4, 5, 6)] == [False, False, True, False]
