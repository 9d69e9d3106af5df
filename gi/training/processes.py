"""What several processes, one a GPU, have to agree on beyond the gradients, which DDP averages."""
from typing import Any

import torch
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn


@torch.no_grad()
def share_buffers(module: nn.Module) -> None:
    """Gives every process the buffers of the first one, BatchNorm's running statistics, as in the original release.

    DDP does that before each forward pass, but not where optimisation is manual; before each evaluation is enough.
    (With an average of all, a resumed run would differ in rounding from one that was not interrupted.)
    """
    for buffer in module.buffers():
        torch.distributed.broadcast(buffer, src=0)


class SyncGeneratorBatchNorm(TorchSyncBatchNorm):
    """For the Trainer's `sync_batchnorm`: the generator's BatchNorms over the batches of all GPUs.

    Not the discriminator's: its gradient penalty needs second derivatives (pytorch/pytorch#61222).
    """

    def apply(self, model: Any) -> nn.Module:
        model.generator = super().apply(model.generator)
        return model
