"""Recomputing blocks in the backward pass: less is kept, nothing else changes."""
import pytest
import torch

from tests.families import random_inputs, tiny_generator

FAMILIES = ["ours", "ours_no_ffc"]


def step(generator, inputs):
    """Output, gradients and buffers after one training step's passes, and the bytes kept for the backward one."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = generator.train()(*inputs)
    output.square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in generator.named_parameters() if p.grad is not None}
    return output.detach(), gradients, dict(generator.named_buffers()), sum(kept.values())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("t", [0, 2])
def test_same_step_with_less_memory(name, t):
    inputs = random_inputs(2, t, 72, 56)
    plain, saving = (step(tiny_generator(name, checkpoint_blocks=on), inputs) for on in (False, True))
    torch.testing.assert_close(saving[0], plain[0], atol=1e-6, rtol=0)
    assert saving[1].keys() == plain[1].keys()
    for key, gradient in plain[1].items():
        torch.testing.assert_close(saving[1][key], gradient, atol=1e-6, rtol=1e-5, msg=key)
    for key, statistic in plain[2].items():  # running means and variances, and how many batches they have seen
        torch.testing.assert_close(saving[2][key], statistic, atol=1e-6, rtol=1e-5, msg=key)
    assert saving[3] < 0.7 * plain[3]


@pytest.mark.parametrize("convert", [lambda network: network, torch.nn.SyncBatchNorm.convert_sync_batchnorm])
def test_statistics_are_counted_again_afterwards(convert):
    generator = convert(tiny_generator("ours", checkpoint_blocks=True))
    for _ in range(2):
        step(generator, random_inputs(2, 0, 32, 32))
    counts = {name: int(value) for name, value in generator.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts and set(counts.values()) == {2}


def test_prediction_does_not_care():
    plain, saving = (tiny_generator("ours", checkpoint_blocks=on) for on in (False, True))
    inputs = random_inputs(1, 2, 40, 56)
    with torch.no_grad():
        torch.testing.assert_close(saving(*inputs), plain(*inputs), atol=0, rtol=0)
