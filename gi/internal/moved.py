"""Translations of a video's holes to known pixels, which tell how good a fill is."""
import numpy as np

_TRIES = 100  # random translations that are tried for each place
_DISTANCE_COST = 0.25  # what a translation by the whole frame costs, as a share of the holes' area
_FRAMES, _SIDE = 30, 64  # that masks are subsampled to: number of frames, and longer side in pixels


def translations(masks: np.ndarray, count: int, *, seed: int = 0) -> list[tuple[float, float]]:
    """`count` translations (down, right), as shares of height and width, for the holes of all frames of (N, H, W).

    Moved there, holes cover much of what is known, little of each other and of the holes where they are, and are not
    far from there, where a video looks more alike.
    """
    rng, (height, width) = np.random.default_rng(seed), masks.shape[1:]
    step, every = -(-max(height, width) // _SIDE), -(-len(masks) // _FRAMES)
    small = masks[::every, ::step, ::step] != 0
    covered, chosen = small, []
    for _ in range(count):
        def value(place, covered=covered):
            moved = move(small, place)
            return ((moved & ~covered).sum() - (moved & covered).sum()) / max(small.sum(), 1) \
                - _DISTANCE_COST * np.hypot(*place)
        best = max((tuple(rng.uniform(-1, 1, 2).tolist()) for _ in range(_TRIES)), key=value)
        covered = covered | move(small, best)
        chosen.append(best)
    return chosen


def move(masks: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """Masks (..., H, W) moved down and to the right by shares of their height and width; what leaves the frame is gone.
    """
    height, width = masks.shape[-2:]
    moved = np.zeros_like(masks)
    (down, right) = (round(share * side) for share, side in zip(place, (height, width), strict=True))
    rows, columns = (slice(max(0, by), side + min(0, by)) for by, side in ((down, height), (right, width)))
    from_rows, from_columns = (slice(max(0, -by), side + min(0, -by)) for by, side in ((down, height), (right, width)))
    moved[..., rows, columns] = masks[..., from_rows, from_columns]
    return moved
