import math

import numpy as np
import pytest
import torch

from gi.errors import InputError
from gi.losses.adversarial import (
    adversarial_discriminator,
    adversarial_generator,
    feature_matching,
    masked_fake,
    r1_penalty,
)
from gi.losses.perceptual import PerceptualLoss
from gi.losses.reconstruction import masked_l1
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


def test_pixel_loss_is_that_of_the_original(inputs, expected):
    real, fake, mask = inputs
    assert masked_l1(fake, real, mask).item() == pytest.approx(expected["l1_known10_missing0"], rel=1e-5)
    loss = masked_l1(fake, real, mask, known=10.0, missing=3.0)
    assert loss.item() == pytest.approx(expected["l1_known10_missing3"], rel=1e-5)


def test_generator_terms_are_those_of_the_original(inputs, expected, discriminator):
    real, fake, _ = inputs
    with torch.no_grad():
        (logits, fake_activations), (_, real_activations) = discriminator(fake), discriminator(real)
    assert adversarial_generator(logits).item() == pytest.approx(expected["adversarial_generator"], rel=1e-5)
    loss = feature_matching(fake_activations, real_activations, weight=1.0)
    assert loss.item() == pytest.approx(expected["feature_matching"], rel=1e-5)
    assert feature_matching(fake_activations, real_activations).item() == pytest.approx(100 * loss.item(), rel=1e-5)


def test_discriminator_terms_are_those_of_the_original(inputs, expected, discriminator):
    real, fake, mask = inputs
    loss = adversarial_discriminator(discriminator, real, fake, mask)
    assert loss.gradient_penalty.item() == pytest.approx(expected["gradient_penalty"], rel=1e-4)
    assert loss.total.item() == pytest.approx(expected["adversarial_discriminator"], rel=1e-5)
    assert loss.total.item() == pytest.approx(sum(term.item() for term in loss), rel=1e-6)


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
    levels = perceptual.levels(fake, real)
    np.testing.assert_allclose(levels.detach().numpy(), expected["resnet_pl_levels"], rtol=1e-5)
    loss = perceptual(fake, real)
    assert loss.item() == pytest.approx(30 * expected["resnet_pl_levels"].sum(), rel=1e-5)
    loss.backward()
    assert fake.grad.abs().sum() > 0 and real.grad is None
    assert not any(parameter.requires_grad for parameter in perceptual.train().parameters())
    assert not perceptual.encoder.bn1.training


def test_perceptual_loss_of_small_and_odd_sizes_and_missing_weights(perceptual, tmp_path):
    image = torch.rand(1, 3, 37, 53)
    assert perceptual(image, image).item() == 0
    assert perceptual(image, 1 - image).item() > 0
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
    loss = adversarial_discriminator(network, images, images, torch.ones(3, 1, 1, 2), r1_weight=0.5)
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
    loss = adversarial_discriminator(network, image, prediction, mask)
    loss.total.backward()
    assert prediction.grad is None and all(p.grad is not None for p in network.parameters())

    logits = torch.tensor([[[[0.3, -1.2]]]])  # left known, so called real; right missing, so called fake
    by_hand = (math.log1p(math.exp(-0.3)) + math.log1p(math.exp(-1.2))) / 2
    assert masked_fake(logits, mask[:1]).item() == pytest.approx(by_hand, rel=1e-6)

    without = adversarial_discriminator(network, image, prediction, mask, r1_weight=0.0)
    assert without.gradient_penalty.item() == 0 and loss.gradient_penalty.item() > 0


def test_generator_gets_gradients_and_the_discriminators_own_stay_apart():
    network, image = PatchDiscriminator(width=4).requires_grad_(False), torch.rand(1, 3, 40, 40)
    prediction = torch.rand(1, 3, 40, 40, requires_grad=True)
    logits, activations = network(prediction)
    loss = adversarial_generator(logits) + feature_matching(activations, network(image)[1])
    loss.backward()
    assert prediction.grad.abs().sum() > 0 and all(p.grad is None for p in network.parameters())


def test_losses_under_autocast_and_without_gradients():
    network, image, mask = PatchDiscriminator(width=4), torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    network.eval()
    plain = adversarial_discriminator(network, image, image, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = adversarial_discriminator(network, image, image, mask)
    assert torch.equal(reduced.gradient_penalty, plain.gradient_penalty) and reduced.total.dtype == torch.float32
    assert reduced.fake.item() == pytest.approx(plain.fake.item(), rel=1e-2)
    with torch.no_grad():
        loss = adversarial_discriminator(network, image, image, mask)
    assert loss.real.item() == pytest.approx(plain.real.item(), rel=1e-5)
    logits = network(image)[0]
    with torch.no_grad():
        assert r1_penalty(logits, image).item() == 0
