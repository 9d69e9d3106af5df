import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import peak_signal_noise_ratio

from gi.errors import InputError
from gi.losses.adversarial import AdversarialLoss
from gi.losses.discriminator import DiscriminatorLoss, masked_fake, r1_penalty
from gi.losses.feature_matching import FeatureMatchingLoss
from gi.losses.l1 import L1Loss
from gi.losses.objective import Discriminated, Objective
from gi.losses.perceptual import PerceptualLoss
from gi.losses.psnr import PSNRLoss
from gi.models.discriminator import PatchDiscriminator
from tests.test_discriminator import with_original_weights


@pytest.fixture(scope="module")
def discriminator(reference):
    return with_original_weights(reference)


@pytest.fixture(scope="module")
def inputs(reference):
    """real, fake, mask"""
    fill = reference.fill
    arrays = (fill.image("losses/real", 2, 3, 128, 128), fill.image("losses/fake", 2, 3, 128, 128),
              fill.mask("losses/mask", 2, 1, 128, 128))
    return [torch.from_numpy(array) for array in arrays]


@pytest.fixture(scope="module")
def expected(reference):
    return reference.load("losses")


def of_discriminator(discriminator, image, prediction, mask, **params):
    """The terms of the discriminator's loss by their names, and their sum."""
    values = DiscriminatorLoss(**params)(prediction, {"image": image, "mask": mask}, discriminator)
    terms = {name.removeprefix("discriminator_"): value for name, value in values.items()}
    return SimpleNamespace(**terms, terms=terms.values(), total=sum(terms.values()))


def test_pixel_loss_is_that_of_the_original(inputs, expected):
    real, fake, mask = inputs
    batch = {"image": real, "mask": mask}
    assert L1Loss()(fake, batch).item() == pytest.approx(expected["l1_known10_missing0"], rel=1e-5)
    loss = L1Loss(weight=2.0, known=5.0, missing=1.5)(fake, batch)
    assert loss.item() == pytest.approx(expected["l1_known10_missing3"], rel=1e-5)


def test_psnr_loss_is_that_of_skimage_in_the_hole(inputs):
    """Squares, so that the hole's pixels alone are a picture."""
    real, fake, _ = inputs
    mask = torch.zeros(2, 1, 128, 128)
    mask[0, :, 10:60, 20:90] = mask[1, :, 64:, 64:] = 1
    scores = [peak_signal_noise_ratio(real[i][box].numpy(), fake[i][box].numpy(), data_range=1)
              for i, box in enumerate([(..., slice(10, 60), slice(20, 90)), (..., slice(64, None), slice(64, None))])]
    batch = {"image": real, "mask": mask}
    assert PSNRLoss(floor=0)(fake, batch).item() == pytest.approx(-np.mean(scores), rel=1e-5)
    assert PSNRLoss(weight=0.5, floor=1.0)(fake, batch).item() == pytest.approx(
        -0.5 * np.mean([-10 * np.log10(1 + 10 ** (-score / 10)) for score in scores]), rel=1e-4)
    prediction = fake.clone().requires_grad_()
    without = PSNRLoss()(prediction, {"image": real, "mask": 0 * mask})
    without.backward()
    assert without.isfinite() and not prediction.grad.any()


def test_generator_terms_are_those_of_the_original(inputs, expected, discriminator):
    real, fake, _ = inputs
    with torch.no_grad():
        inputs = fake, {}, Discriminated(discriminator, fake, real)
        loss = FeatureMatchingLoss(weight=1.0)(*inputs)
    assert AdversarialLoss()(*inputs).item() == pytest.approx(expected["adversarial_generator"], rel=1e-5)
    assert loss.item() == pytest.approx(expected["feature_matching"], rel=1e-5)
    assert FeatureMatchingLoss()(*inputs).item() == pytest.approx(100 * loss.item(), rel=1e-5)


def test_discriminator_terms_are_those_of_the_original(inputs, expected, discriminator):
    real, fake, mask = inputs
    loss = of_discriminator(discriminator, real, fake, mask)
    assert loss.gradient_penalty.item() == pytest.approx(expected["gradient_penalty"], rel=1e-4)
    assert loss.total.item() == pytest.approx(expected["adversarial_discriminator"], rel=1e-5)
    assert loss.total.item() == pytest.approx(sum(term.item() for term in loss.terms), rel=1e-6)


@pytest.fixture(scope="module")
def perceptual(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("ade20k") / "encoder_epoch_20.pth"
    weights = reference.fill.state_dict("ade20k_encoder")
    torch.save({name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()
                if not name.endswith("num_batches_tracked")}, path)  # as in files of 2018
    return PerceptualLoss(weights=str(path))


def test_perceptual_loss_is_that_of_the_original(inputs, expected, perceptual):
    real, fake, _ = inputs
    fake = fake.clone().requires_grad_()
    real = real.clone().requires_grad_()
    levels = [F.mse_loss(a, b).item() for a, b in zip(perceptual.encoder(fake), perceptual.encoder(real), strict=True)]
    np.testing.assert_allclose(levels, expected["resnet_pl_levels"], rtol=1e-5)
    loss = perceptual(fake, {"image": real})
    assert loss.item() == pytest.approx(30 * expected["resnet_pl_levels"].sum(), rel=1e-5)
    loss.backward()
    assert fake.grad.abs().sum() > 0 and real.grad is None
    assert not any(parameter.requires_grad for parameter in perceptual.train().parameters())
    assert not perceptual.encoder.bn1.training


def test_perceptual_loss_of_small_and_odd_sizes_and_missing_weights(perceptual, tmp_path):
    image = torch.rand(1, 3, 37, 53)
    assert perceptual(image, {"image": image}).item() == 0
    assert perceptual(image, {"image": 1 - image}).item() > 0
    with pytest.raises(InputError, match="no such file.*encoder_epoch_20.*CSAILVision"):
        PerceptualLoss(weights=str(tmp_path / "encoder.pth"))


class Quadratic(torch.nn.Module):
    """D(x) = a x1^2 + b x1 x2 + c on an image of one row of two pixels, channel 0; its penalty is known by hand."""

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.7))
        self.b = torch.nn.Parameter(torch.tensor(-0.4))
        self.c = torch.nn.Parameter(torch.tensor(0.2))

    def forward(self, image):
        x, y = image[:, 0, 0, 0], image[:, 0, 0, 1]
        return (self.a * x ** 2 + self.b * x * y + self.c)[:, None, None, None], []


def test_r1_and_its_gradient_by_hand():
    network, images = Quadratic(), torch.rand(3, 3, 1, 2)
    x, y = images[:, 0, 0, 0], images[:, 0, 0, 1]
    loss = of_discriminator(network, images, images, torch.ones(3, 1, 1, 2), r1=0.5)
    a, b = network.a.item(), network.b.item()
    dx, dy = 2 * a * x + b * y, b * x
    torch.testing.assert_close(loss.gradient_penalty, 0.5 * (dx ** 2 + dy ** 2).mean())
    loss.gradient_penalty.backward(retain_graph=True)
    torch.testing.assert_close(network.a.grad, 0.5 * (2 * dx * 2 * x).mean())
    torch.testing.assert_close(network.b.grad, 0.5 * (2 * dx * y + 2 * dy * x).mean())
    assert not images.requires_grad  # the caller's tensor is left alone


def test_discriminator_loss_by_hand_and_its_gradients():
    network, mask = PatchDiscriminator(width=4), torch.zeros(2, 1, 64, 64)
    mask[:, :, :, 32:] = 1
    image, prediction = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64, requires_grad=True)
    loss = of_discriminator(network, image, prediction, mask)
    loss.total.backward()
    assert prediction.grad is None and all(p.grad is not None for p in network.parameters())

    logits = torch.tensor([[[[0.3, -1.2]]]])  # left known, so called real; right missing, so called fake
    by_hand = (math.log1p(math.exp(-0.3)) + math.log1p(math.exp(-1.2))) / 2
    assert masked_fake(logits, mask[:1]).item() == pytest.approx(by_hand, rel=1e-6)

    without = of_discriminator(network, image, prediction, mask, r1=0.0)
    assert without.gradient_penalty.item() == 0 and loss.gradient_penalty.item() > 0


def test_generator_gets_gradients_and_the_discriminators_own_stay_apart():
    network, image = PatchDiscriminator(width=4).requires_grad_(False), torch.rand(1, 3, 40, 40)
    prediction = torch.rand(1, 3, 40, 40, requires_grad=True)
    objective = Objective(terms={"adversarial": AdversarialLoss(), "matching": FeatureMatchingLoss()})
    sum(objective.generator(prediction, {"image": image}, network).values()).backward()
    assert prediction.grad.abs().sum() > 0 and all(p.grad is None for p in network.parameters())


def test_losses_under_autocast_and_without_gradients():
    network, image, mask = PatchDiscriminator(width=4), torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    network.eval()
    plain = of_discriminator(network, image, image, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = of_discriminator(network, image, image, mask)
    assert torch.equal(reduced.gradient_penalty, plain.gradient_penalty) and reduced.total.dtype == torch.float32
    assert reduced.fake.item() == pytest.approx(plain.fake.item(), rel=1e-2)
    with torch.no_grad():
        loss = of_discriminator(network, image, image, mask)
    assert loss.real.item() == pytest.approx(plain.real.item(), rel=1e-5)
    logits = network(image)[0]
    with torch.no_grad():
        assert r1_penalty(logits, image).item() == 0


# Named terms ----------------------------------------------------------------------------------------------------------


class Own(torch.nn.Module):
    """Twice the mean of the prediction, or whatever it is told to return."""

    def __init__(self, returns=None):
        super().__init__()
        self.returns = returns

    def forward(self, prediction, batch, discriminated):
        return 2 * prediction.mean() if self.returns is None else self.returns


def test_terms_share_one_pass_of_the_discriminator_each():
    network, image = PatchDiscriminator(width=4), torch.rand(1, 3, 40, 40)
    passes = []
    network.register_forward_hook(lambda module, inputs, output: passes.append((inputs[0], torch.is_grad_enabled())))
    prediction, batch = torch.rand(1, 3, 40, 40), {"image": image, "mask": torch.ones(1, 1, 40, 40)}
    terms = {"l1": L1Loss(), "a": AdversarialLoss(), "off": None, "b": AdversarialLoss(weight=5)}
    values = Objective(terms=terms).generator(prediction, batch, network)
    assert list(values) == ["l1", "a", "b"] and values["a"].item() == pytest.approx(2 * values["b"].item())
    assert [picture is prediction for picture, _ in passes] == [True]
    passes.clear()
    terms |= {"matching": FeatureMatchingLoss(), "own": Own(), "zero": FeatureMatchingLoss(weight=0)}
    values = Objective(terms=terms).generator(prediction, batch, network)
    assert values["own"].item() == pytest.approx(2 * prediction.mean().item()) and "zero" not in values
    assert [(picture is image, grad) for picture, grad in passes] == [(False, True), (True, False)]
    passes.clear()
    assert Objective(terms={"own": Own()}).generator(prediction, batch, network) and passes == []


def test_what_a_term_lacks_or_gives_wrongly_is_named():
    objective = Objective(terms={"l1": L1Loss(), "matching": FeatureMatchingLoss()})
    with pytest.raises(InputError, match="terms.matching: needs a discriminator"):
        objective.check(None)
    objective.check(PatchDiscriminator(width=4))
    Objective(terms={"l1": L1Loss(), "matching": FeatureMatchingLoss(weight=0)}).check(None)
    image = torch.rand(1, 3, 8, 8)
    for wrong, shown in ((image, r"torch.Size\(\[1, 3, 8, 8\]\)"), (1.0, "float")):
        with pytest.raises(InputError, match=f"terms.own: gave {shown}, expected a tensor of no dimension"):
            Objective(terms={"own": Own(returns=wrong)}).generator(image, {"image": image}, None)
    with pytest.raises(InputError, match="none with a weight above 0"):
        Objective(terms={"l1": L1Loss(weight=0), "perceptual": None})


def test_terms_move_with_the_objective():
    parameter = torch.nn.Parameter(torch.ones(()))
    objective = Objective(terms={"values": L1Loss(), "of.any.name": Own(returns=parameter)}).double()
    assert objective.terms["of.any.name"].returns.dtype == torch.float64
