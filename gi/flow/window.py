"""The window of an image that has to be computed: around its hole, which is small compared with a photograph."""
from torch import Tensor

Window = tuple[slice, slice]  # rows, columns
EVERYWHERE: Window = slice(None), slice(None)


def window_around(selected: Tensor, margin: int) -> Window:
    """Rows and columns of the smallest rectangle around all that is true in (N,1,H,W), grown by `margin` pixels within
    the image. The whole image if nothing is true, and on a GPU, where looking would mean waiting for it.
    """
    if selected.device.type != "cpu":
        return EVERYWHERE
    rows, columns = (_span(selected.any(dim=axis).flatten(0, 1).any(dim=0), margin) for axis in (-1, -2))
    return rows, columns


def corner(window: Window) -> list[int]:
    """Row and column of a window's first pixel."""
    return [part.start or 0 for part in window]


def _span(selected, margin):
    places = selected.nonzero()
    if not len(places):
        return slice(0, len(selected))
    first, last = int(places[0]), int(places[-1])
    return slice(max(0, first - margin), min(len(selected), last + 1 + margin))
