import numpy as np
import pytest
import torch

from gi.models.discriminator import PatchDiscriminator
from gi.weights.checkpoint import original_discriminator_names, rename
from gi.weights.files import load_strict


def with_original_weights(reference):
    """The original's weights, through the names that the checkpoint importer gives them."""
    state = {key: torch.from_numpy(np.asarray(x)) for key, x in reference.fill.state_dict("discriminator").items()}
    network = PatchDiscriminator()
    load_strict(network, rename(state, original_discriminator_names(state)), "discriminator")
    return network.eval()


@pytest.fixture(scope="module")
def discriminator(reference):
    return with_original_weights(reference)


@torch.no_grad()
def test_discriminator_is_that_of_the_original(reference, discriminator):
    fill, expected = reference.fill, reference.load("discriminator")
    logits, activations = discriminator(torch.from_numpy(fill.image("discriminator", 2, 3, 128, 128)))
    np.testing.assert_allclose(logits.numpy(), expected["prediction"], atol=1e-5)
    assert len(activations) == 5
    for i, activation in enumerate(activations):
        stats, sample = fill.summary(activation.numpy())
        np.testing.assert_allclose(stats, expected[f"feature_{i}_stats"], atol=1e-6)
        np.testing.assert_allclose(sample, expected[f"feature_{i}_sample"], atol=1e-5)


@pytest.mark.parametrize("width", [1, 6, 32])
@pytest.mark.parametrize("size", [(64, 64), (1, 1), (33, 47)])
def test_every_width_and_size(width, size):
    network = PatchDiscriminator(width=width)
    logits, activations = network(torch.rand(2, 3, *size))
    assert logits.shape[:2] == (2, 1) and logits.isfinite().all()
    assert [activation.shape[1] for activation in activations] == [width, 2 * width, 4 * width, 8 * width, 8 * width]
    if size == (64, 64):
        assert logits.shape == (2, 1, 64 // 16 + 3, 64 // 16 + 3)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@torch.no_grad()
def test_samples_do_not_mix(discriminator):
    images = torch.rand(3, 3, 70, 64)
    together = discriminator(images)[0]
    torch.testing.assert_close(together, torch.cat([discriminator(images[i:i + 1])[0] for i in range(3)]))
