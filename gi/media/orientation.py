"""Display matrices: how a stored picture is to be turned and mirrored before it is shown."""
from dataclasses import dataclass

import av
import numpy as np


@dataclass(frozen=True)
class Orientation:
    """Swap rows and columns first, then read them in steps of 1 or, mirrored, -1. `matrix`: the display matrix it comes
    from.
    """

    swap: bool = False
    rows: int = 1
    columns: int = 1
    matrix: tuple[int, ...] | None = None

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, …) as stored -> as shown."""
        pixels = np.swapaxes(pixels, 0, 1) if self.swap else pixels
        return np.ascontiguousarray(pixels[:: self.rows, :: self.columns])

    def undo(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, …) as shown -> as stored."""
        pixels = pixels[:: self.rows, :: self.columns]
        return np.ascontiguousarray(np.swapaxes(pixels, 0, 1) if self.swap else pixels)


def orientation_of(picture: av.VideoFrame) -> Orientation:
    """The turn of a picture's display matrix; angles are rounded to multiples of 90 degrees."""
    data = picture.side_data.get("DISPLAYMATRIX")
    if data is None or len(bytes(data)) != 36:
        return Orientation()
    matrix = tuple(np.frombuffer(bytes(data), np.int32).tolist())
    a, b, _, c, d = matrix[:5]  # shown x = a x + c y, shown y = b x + d y
    swap = abs(b) + abs(c) > abs(a) + abs(d)
    columns, rows = (-1 if number < 0 else 1 for number in ((c, b) if swap else (a, d)))
    return Orientation(swap, rows, columns, matrix) if (swap, rows, columns) != (False, 1, 1) else Orientation()
