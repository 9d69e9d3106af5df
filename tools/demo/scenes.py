"""Images and a video to fill, made of photographs that come with scikit-image; the network was not trained on them."""
from collections.abc import Iterator

import cv2
import numpy as np

from gi.data.pairs import GuidedPairs
from gi.data.photometric import Photometric
from gi.data.sources import BundledPhotographs
from gi.data.stereo import StereoPair
from gi.media import io

PHOTOGRAPHS = ["astronaut.png", "coffee.png", "rocket.jpg", "chelsea.png"]  # in the public domain or CC0


def photographs(*, size: int = 320, length: int = 8, seed: int = 0) -> GuidedPairs:
    """Two more views of a photograph as keyframes, as if the camera had moved, turned and zoomed; a hole in each."""
    true_colours = Photometric(clahe_probability=0, brightness_probability=0, hsv_probability=0)
    return GuidedPairs(images=BundledPhotographs(names=PHOTOGRAPHS), size=size, margin=64, length=length, seed=seed,
                       view_photometric=true_colours)


def stereo(*, size: int = 320, length: int = 4, seed: int = 0) -> StereoPair:
    """A real second view: the right picture of a stereo pair is the keyframe of the left one."""
    return StereoPair(size=size, length=length, min_window=400, seed=seed)


def camera_path(count: int, *, width: int = 432, height: int = 240) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames (height, width, 3) of a camera that pans over a photograph, turns and comes closer, and masks (height,
    width), 1 = missing, of a hole that crosses the picture; uint8."""
    photograph = io.read_image(BundledPhotographs(names=["coffee.png"]).path(0))
    tall, wide = photograph.shape[:2]
    for t in np.linspace(0, 1, count):
        zoom, angle = 1 + 0.15 * t, np.deg2rad(4 * np.sin(2 * np.pi * t))
        centre = np.array([wide / 2 + (t - 0.5) * (wide - 1.1 * width), tall / 2 + 40 * np.sin(np.pi * t)])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        shift = centre - turn @ [width / 2, height / 2]
        frame = cv2.warpAffine(photograph, np.column_stack([turn, shift]), (width, height),
                               flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101)
        mask = np.zeros((height, width), np.uint8)
        place = round(width * (0.25 + 0.5 * t)), round(height * (0.5 + 0.12 * np.sin(4 * np.pi * t)))
        cv2.ellipse(mask, place, (42, 60), 15, 0, 360, 1, -1)
        yield frame, mask
