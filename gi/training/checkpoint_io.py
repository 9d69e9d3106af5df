"""How the Trainer reads and writes checkpoint files: atomically, and without ever running code from one."""
from pathlib import Path
from typing import Any

from pytorch_lightning.plugins.io import TorchCheckpointIO

from gi.weights.checkpoint import present_names
from gi.weights.files import write_state
from gi.weights.unpickle import read_checkpoint


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary name and renames, so that a killed run leaves the previous checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write_state(path, checkpoint, durable=True)

    def load_checkpoint(self, path: str | Path, map_location: Any = None,
                        weights_only: bool | None = None) -> dict[str, Any]:
        content = read_checkpoint(path)
        return {**content, "state_dict": present_names(content["state_dict"])}
