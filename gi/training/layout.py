"""The memory layout of networks in training: contiguous, or with channels innermost ("channels last").

Which of them is faster depends on the processor and on the network, in both directions, so it is measured. Results are
the same to rounding.
"""
import time
from collections.abc import Callable, Iterable, Mapping

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

ROUNDS = 3  # steps in each layout; the first also prepares kernels
LEAST_STEPS = 500  # shortest training for which the measurement is a small share


def lay_out(networks: Iterable[nn.Module], channels_last: bool) -> None:
    """Changes the layout of the weights, in place; that of the activations follows."""
    for network in networks:
        network.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def is_channels_last(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights of convolutions were stored as `lay_out` leaves them. (A 1x1 kernel looks alike in both.)"""
    kernels = [weight for weight in weights.values() if weight.ndim == 4 and not weight.is_contiguous()]
    return any(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def is_short(trainer: pl.Trainer, accumulated: int) -> bool:
    """Whether a training has too few steps, of `accumulated` batches, to measure for, as far as its limits tell."""
    if trainer.max_steps >= 0 or not trainer.max_epochs or trainer.max_epochs < 0:
        return 0 <= trainer.max_steps < LEAST_STEPS
    batches = len(trainer.datamodule.train) // (trainer.datamodule.batch_size * trainer.world_size)
    if isinstance(trainer.limit_train_batches, int):
        batches = min(batches, trainer.limit_train_batches)
    return trainer.max_epochs * (batches // accumulated + 1) < LEAST_STEPS


def channels_last_is_faster(step: Callable[[], object], networks: Iterable[nn.Module], trainer: pl.Trainer) -> bool:
    """Measures with `seconds_by_layout` and logs the result; all processes use the first one's measurement."""
    contiguous, channels_last = trainer.strategy.broadcast(seconds_by_layout(step, networks))
    pl.utilities.rank_zero_info(f"memory layout: a generator step takes {contiguous:.3g} s contiguous and "
                                f"{channels_last:.3g} s with channels last; the faster is kept")
    return channels_last < contiguous


def seconds_by_layout(step: Callable[[], object], networks: Iterable[nn.Module]) -> tuple[float, float]:
    """Seconds that `step` takes with contiguous networks and with channels last ones: the minimum of ROUNDS,
    alternating.

    Buffers, such as the statistics of BatchNorms, and the state of torch's random numbers on the CPU are restored.
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
