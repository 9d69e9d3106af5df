"""The memory layout of networks in training: contiguous, or with channels innermost ("channels last").

Which of them is faster depends on the processor and on the network, in both directions, so it is measured. Results are
the same to rounding.
"""
import time
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

ROUNDS = 3  # steps in each layout; the first also prepares kernels
LEAST_STEPS = 500  # of a training for which these are a small share


def lay_out(networks: Iterable[nn.Module], channels_last: bool) -> None:
    """Changes the layout of the weights, in place; that of the activations follows."""
    for network in networks:
        network.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def is_channels_last(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights of convolutions were stored as `lay_out` leaves them. (A 1x1 kernel looks alike in both.)"""
    kernels = [weight for weight in weights.values() if weight.ndim == 4 and not weight.is_contiguous()]
    return any(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def seconds_by_layout(step: Callable[[], object], networks: Iterable[nn.Module]) -> tuple[float, float]:
    """Seconds that `step` takes with contiguous networks and with channels last ones: the least of ROUNDS, in turn.

    Buffers, as the statistics of BatchNorms, are afterwards as before, and so are torch's random numbers on the CPU.
    """
    networks = list(networks)
    before = [buffer.clone() for network in networks for buffer in network.buffers()]
    seconds: tuple[list[float], list[float]] = ([], [])
    with torch.random.fork_rng(devices=[]):
        for _ in range(ROUNDS):
            for channels_last in (False, True):
                lay_out(networks, channels_last)
                start = time.perf_counter()
                step()
                seconds[channels_last].append(time.perf_counter() - start)
    buffers = [buffer for network in networks for buffer in network.buffers()]
    for buffer, value in zip(buffers, before, strict=True):
        buffer.copy_(value)
    return min(seconds[False]), min(seconds[True])
