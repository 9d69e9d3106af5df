"""Changes of colour, on uint8 RGB images (H, W, 3). The numbers are those of the original release."""
from dataclasses import dataclass

import cv2
import numpy as np

from gi.errors import expect_at_least, expect_within

_LEVELS = np.arange(256, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Photometric:
    """Random changes in this order: local contrast (CLAHE), brightness and contrast, hue with saturation and value.

    Each of the three happens with its own probability; `brightness` to `value` are the largest changes, drawn
    uniformly from both signs: brightness and contrast as shares of the full range, hue in steps of 2 degrees,
    saturation and value of 255.
    """

    clahe_probability: float = 0.5
    max_clip_limit: float = 4.0
    brightness_probability: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    hsv_probability: float = 0.5
    hue: float = 5.0
    saturation: float = 30.0
    value: float = 5.0

    @classmethod
    def of_frames(cls) -> "Photometric":
        """Differences between the frames of one sample: a few grey levels. The defaults are for the view that they
        share.
        """
        return cls(clahe_probability=0.0, brightness=0.01, contrast=0.01, hue=0.0, saturation=3.0, value=1.0)

    def __post_init__(self):
        for name, number in vars(self).items():
            expect_within(0, 1 if name.endswith("probability") else np.inf, **{name: number})
        expect_at_least(1, max_clip_limit=self.max_clip_limit)

    def __call__(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        if rng.random() < self.clahe_probability:
            image = equalise_locally(image, rng.uniform(1, self.max_clip_limit))
        if rng.random() < self.brightness_probability:
            brightness = rng.uniform(-self.brightness, self.brightness)
            image = change_brightness(image, brightness, rng.uniform(-self.contrast, self.contrast))
        if rng.random() < self.hsv_probability:
            limits = np.array([self.hue, self.saturation, self.value])
            image = shift_hsv(image, *rng.uniform(-limits, limits))
        return image


def equalise_locally(image: np.ndarray, clip_limit: float) -> np.ndarray:
    """CLAHE of the lightness (L of LAB) over 8 x 8 tiles."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lightness = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(8, 8)).apply(cv2.extractChannel(lab, 0))
    cv2.insertChannel(lightness, lab, 0)
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def change_brightness(image: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    """`image * (1 + contrast) + 255 * brightness`, clipped to [0, 255]."""
    return cv2.LUT(image, np.clip(np.round(_LEVELS * (1 + contrast) + 255 * brightness), 0, 255).astype(np.uint8))


def shift_hsv(image: np.ndarray, hue: float, saturation: float, value: float) -> np.ndarray:
    """Adds to the channels of OpenCV's 8-bit HSV. Hue counts steps of 2 degrees and wraps at 180, the others clip."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    if turn := round(hue) % 180:
        cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 0), ((_LEVELS + turn) % 180).astype(np.uint8)), hsv, 0)
    return cv2.cvtColor(cv2.add(hsv, (0, round(saturation), round(value), 0)), cv2.COLOR_HSV2RGB)
