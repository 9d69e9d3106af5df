"""How the Trainer reads and writes checkpoint files: atomically, and without ever running code from one."""
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from gi.media.io import atomic_write
from gi.weights.checkpoint import present_names
from gi.weights.unpickle import read_checkpoint


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary name and renames, so that a killed run leaves the previous checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_write(path, durable=True) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: str | Path, map_location: Any = None,
                        weights_only: bool | None = None) -> dict[str, Any]:
        content = read_checkpoint(path)
        return {**content, "state_dict": present_names(content["state_dict"])}
