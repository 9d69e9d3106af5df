"""The fused optimiser: the same steps, and checkpoints of either kind."""
import copy

import pytest
import torch

from gi.training.optimizer import adam


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(7, 40), torch.nn.Tanh(), torch.nn.Linear(40, 1))


def train(model, optimizer, steps):
    for x in torch.rand(4, 16, 7, generator=torch.Generator().manual_seed(1))[steps]:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def make(model, scaled):
    return adam(model.parameters(), lr=0.01, betas=(0.9, 0.999), scaled=scaled)


def test_fused_steps_are_torchs():
    ours, theirs = network(), network()
    optimizer = make(ours, scaled=False)
    assert optimizer.defaults["fused"]
    train(ours, optimizer, slice(4))
    train(theirs, torch.optim.Adam(theirs.parameters(), 0.01, foreach=False), slice(4))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("before, after", [(True, False), (False, True), (None, False)])
def test_resuming_keeps_the_runs_own_kind(before, after, tmp_path):
    """`before` and `after`: whether gradients are scaled, so it is not fused; None: plain Adam wrote the file."""
    whole, first, second = network(), network(), network()
    train(whole, make(whole, scaled=after), slice(4))
    optimizer = torch.optim.Adam(first.parameters(), 0.01) if before is None else make(first, scaled=before)
    train(first, optimizer, slice(2))
    torch.save([first.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")

    model, state = torch.load(tmp_path / "state.pt")
    second.load_state_dict(model)
    optimizer = make(second, scaled=after)
    optimizer.load_state_dict(state)
    assert [group["fused"] for group in optimizer.param_groups] == [not after]
    assert state["param_groups"][0]["fused"] is (None if before is None else not before)  # the caller's is left alone
    train(second, optimizer, slice(2, 4))
    for a, b in zip(second.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_moments_take_the_layout_of_their_parameters():
    """A run in channels_last goes on with what one without it wrote."""
    torch.manual_seed(0)
    x, plain = torch.rand(2, 3, 8, 8), torch.nn.Conv2d(3, 4, 3)
    other = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    one = make(plain, scaled=False)
    for step in range(3):
        if step == 1:
            other.load_state_dict(plain.state_dict())
            two = make(other, scaled=False)
            two.load_state_dict(copy.deepcopy(one.state_dict()))
        for network, optimizer in [(plain, one), (other, two)] if step else [(plain, one)]:
            optimizer.zero_grad()
            network(x).square().mean().backward()
            optimizer.step()
    assert other.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(other.weight, plain.weight, atol=1e-6, rtol=0)
