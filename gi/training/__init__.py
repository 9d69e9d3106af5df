"""The training module, the Trainer around it, and its callbacks."""
