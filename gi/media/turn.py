"""Display matrices: how a stored picture is to be turned and mirrored before it is shown."""
from dataclasses import dataclass

import av
import numpy as np


@dataclass(frozen=True)
class Turn:
    """Swap rows and columns first, then mirror. `matrix`: the nine numbers it was read from, row by row."""

    swap: bool = False
    left_right: bool = False
    up_down: bool = False
    matrix: tuple[int, ...] | None = None

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, …) as stored -> as shown."""
        return np.ascontiguousarray(self._mirror(np.swapaxes(pixels, 0, 1) if self.swap else pixels))

    def undo(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, …) as shown -> as stored."""
        pixels = self._mirror(pixels)
        return np.ascontiguousarray(np.swapaxes(pixels, 0, 1) if self.swap else pixels)

    def _mirror(self, pixels: np.ndarray) -> np.ndarray:
        pixels = pixels[:, ::-1] if self.left_right else pixels
        return pixels[::-1] if self.up_down else pixels


def turn_of(picture: av.VideoFrame) -> Turn:
    """The turn a picture asks for; angles between multiples of 90 degrees count as the nearest."""
    data = picture.side_data.get("DISPLAYMATRIX")
    if data is None or len(bytes(data)) != 36:
        return Turn()
    matrix = tuple(np.frombuffer(bytes(data), np.int32).tolist())
    a, b, _, c, d = matrix[:5]  # shown x = a x + c y, shown y = b x + d y
    swap = abs(b) + abs(c) > abs(a) + abs(d)
    turn = Turn(swap, (c if swap else a) < 0, (b if swap else d) < 0, matrix)
    return turn if turn.swap or turn.left_right or turn.up_down else Turn()
