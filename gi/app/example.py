"""The example on the first screen: a beach ball rolls over a photograph while the camera moves.

    python -m gi.app.example VIDEO [--masks FOLDER] [--frames N]

The photograph is one that is installed with scikit-image and in the public domain; the rest is drawn.
"""
import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from gi.data.sources import BundledPhotographs
from gi.media import io

NAME, WIDTH, HEIGHT, FRAMES, RATE = "example.mp4", 480, 270, 40, 20
RADIUS = 32
COLOURS = np.array([(214, 40, 40), (245, 245, 240), (31, 97, 182), (245, 245, 240), (247, 190, 40), (245, 245, 240)])


def frames(count: int = FRAMES) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames (HEIGHT, WIDTH, 3) and masks (HEIGHT, WIDTH) of ball and shadow, 1 = object; uint8."""
    photograph = io.read_image(BundledPhotographs(names=["coffee.png"]).path(0))
    tall, wide = photograph.shape[:2]
    for t in np.linspace(0, 1, count):
        zoom, angle = WIDTH / wide * (1.22 + 0.05 * t), np.deg2rad(1.5 * np.sin(2 * np.pi * t))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        centre = np.array([wide / 2 - 30 + 60 * t, tall / 2 + 12 * np.sin(np.pi * t)])
        matrix = np.column_stack([turn, centre - turn @ [WIDTH / 2, HEIGHT / 2]])
        frame = cv2.warpAffine(photograph, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
                               borderMode=cv2.BORDER_REFLECT_101)
        x, y = 55 + 370 * t, HEIGHT * 0.62 - 26 * abs(np.sin(2.5 * np.pi * t))
        yield _with_ball(frame, x, y, 370 * t / RADIUS)


def _with_ball(frame, x, y, roll):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    across, down = columns - x, rows - y
    distance = np.hypot(across, down)
    shadow = np.clip(1.2 - np.hypot(across / RADIUS, (rows - HEIGHT * 0.62 - RADIUS) / 7), 0, 0.5)[..., None]
    ball = np.clip(RADIUS - distance + 0.5, 0, 1)[..., None]  # soft at its edge
    sector = np.floor((np.arctan2(down, across) - roll) / (2 * np.pi) * len(COLOURS)).astype(int) % len(COLOURS)
    light = 1.05 - 0.5 * np.hypot(across + 10, down + 12)[..., None] / (2 * RADIUS)
    colours = np.where(distance[..., None] < 7, COLOURS[1], COLOURS[sector]) * light
    result = frame * (1 - shadow) * (1 - ball) + np.clip(colours, 0, 255) * ball
    return result.round().astype(np.uint8), ((ball + shadow)[..., 0] > 0.02).astype(np.uint8)


def main() -> None:
    """Writes the video, and its true masks where they are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("video", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--frames", type=int, default=FRAMES)
    args = parser.parse_args()
    with io.atomic_write(args.video) as temporary, av.open(str(temporary), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"crf": "17", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, (frame, mask) in enumerate(frames(args.frames)):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            if args.masks is not None:
                io.write_image(args.masks / f"{number:06d}.png", mask * 255)
        file.mux(stream.encode(None))


if __name__ == "__main__":
    main()
