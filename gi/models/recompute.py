"""Less memory in training for more time: what a part of a network computed is computed again in the backward pass."""
import contextlib

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, *inputs):
    """`module(*inputs)`, of which only inputs and outputs are kept. Gradients and running statistics are the same."""
    return checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False,  # nothing here is random
                      context_fn=lambda: (contextlib.nullcontext(), _without_statistics(module)))


@contextlib.contextmanager
def _without_statistics(module):
    """BatchNorms normalise as they did, but do not count the batch a second time."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, values in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = values
