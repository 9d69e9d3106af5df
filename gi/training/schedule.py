"""Learning-rate multiplier per optimiser step."""
import math


def warmup_cosine(step: int, *, warmup: int = 1000, end: int = 1_000_000, floor: float = 1e-4) -> float:
    """Linear from `floor` to 1 over `warmup` steps, then a cosine down to `floor` at step `end`, flat after.

    The defaults are the original release's.
    """
    if step < warmup:
        return floor + (1 - floor) * step / warmup
    progress = min(1.0, (step - warmup) / max(1, end - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
