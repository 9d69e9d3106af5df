"""Video: frames through the whole pipeline, and key targets with and without cached streams of the keyframes."""
import itertools
from collections.abc import Iterator

import numpy as np
import torch

from gi.compositing import masked, tensor_of_pixels
from gi.video import VideoInpainter
from gi.video.keyframes import plan
from gi.video.keyframes.frame_streams import FrameStreams
from gi.video.method import apart
from tools.benchmark.parts import Parts
from tools.benchmark.timing import Result, ratios, run_laps

OFFSETS = plan.GUIDES[14]
FIRST = max(OFFSETS)  # frame from which on all guides lie inside the video
FULL_WARMUP = 2  # key targets after which every further one has the same number of new guides


def video(parts: Parts) -> Iterator[tuple[str, Result]]:
    """Frames of an endless video with 14 guides per key target; a lap is a chunk of 20 frames."""
    guidance, notes = parts.build("guidance", mask_images=True)
    if any("RAFT" in note for note in notes):  # the output of an untrained network is no usable flow
        guidance, _ = parts.build("guidance", mask_images=True, estimator={"target": "gi.flow.estimate.DIS"})
        notes = ["flow by DIS, whose work is not counted: no weights of RAFT here"]
    inpainter = VideoInpainter(generator=parts.generator, guidance=guidance, device=parts.device, guides=14)
    frames = inpainter(*apart((scene(parts, number) for number in itertools.count()), 2))
    consume(frames, FIRST)
    meter = parts.meter(warmup=1)
    run_laps((meter, lambda lap: consume(frames, plan.EVERY)))
    yield "video", meter.result("frame", plan.EVERY, [_size(parts), "14 guides, always float32", *notes])


def video_targets(parts: Parts) -> Iterator[tuple[str, Result]]:
    """Key targets with 14 guides, by the plain generator ("naive") and `FrameStreams` ("kept"), and their differences.
    """
    generator, streams = parts.generator, FrameStreams(parts.generator)
    naive_meter, kept_meter = (parts.meter(warmup=FULL_WARMUP) for _ in range(2))
    numbers = [FIRST + plan.EVERY * lap for lap in range(naive_meter.laps)]
    needed = {number + offset for number in numbers for offset in (0, *OFFSETS)}
    frames = {number: _with_mask(parts, number) for number in sorted(needed)}
    random = torch.Generator().manual_seed(0)
    flows = (4 * torch.randn(1, len(OFFSETS), 2, *parts.settings.video, generator=random)).to(parts.device)
    errors = flows.abs().mean(dim=2, keepdim=True)
    collected: dict[str, list] = {"naive": [], "kept": [], "passes": []}

    def naive(lap):
        sources = torch.stack([frames[numbers[lap] + offset] for offset in OFFSETS], dim=1)
        collected["naive"].append(generator(frames[numbers[lap]], sources, flows, errors))

    def kept(lap):
        guides = [(number, lambda number=number: frames[number])
                  for number in (numbers[lap] + offset for offset in OFFSETS)]
        before = streams.passes
        collected["kept"].append(streams.predict(frames[numbers[lap]], guides, flows, errors))
        collected["passes"].append(streams.passes - before)

    with torch.no_grad(), parts.autocast():
        run_laps((naive_meter, naive), (kept_meter, kept))
    notes = [_size(parts), f"14 guides, a target every {plan.EVERY} frames"]
    plain, cached = (meter.result("target", notes=notes) for meter in (naive_meter, kept_meter))
    outputs = [torch.stack(collected[name]).float() for name in ("naive", "kept")]
    cached.findings = {
        **{f"naive / kept: {key}": value for key, value in ratios(plain, cached).items()},
        "keyframe passes of a target, naive": len(OFFSETS),
        "keyframe passes of a target, kept": max(collected["passes"][FULL_WARMUP:]),
        "largest difference of outputs": (outputs[0] - outputs[1]).abs().max().item(),
        "standard deviation of outputs": outputs[0].std().item(),
    }
    yield "video_targets/naive", plain
    yield "video_targets/kept", cached


def scene(parts: Parts, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame of an endless video, uint8 (H, W, 3), and its mask: a camera pans back and forth over the photograph.

    There are holes from frame FIRST on, so that no key target lacks guides: one that moves with the camera, so that
    other frames show what it covers, and below it some that move with the scene, so that no frame does.
    """
    height, width = parts.settings.video
    room = parts.photograph.shape[1] - width
    left, top = abs((2 * number + room) % (2 * room) - room), (parts.photograph.shape[0] - height) // 2
    mask = np.zeros((height, width), np.uint8)
    if number >= FIRST:
        mask[height // 3 : height // 2, 2 * width // 5 : 3 * width // 5] = 1
        mask[height // 2 : 2 * height // 3] = (np.arange(left, left + width) // (width // 10)) % 5 == 0
    return parts.photograph[top : top + height, left : left + width], mask


def consume(frames: Iterator, count: int) -> None:
    for _ in itertools.islice(frames, count):
        pass


def _with_mask(parts, number):
    """A masked frame as input of the generator, (1, 4, H, W)."""
    frame, _ = scene(parts, number)
    mask = scene(parts, FIRST)[1]
    return masked(tensor_of_pixels(frame), torch.from_numpy(mask)[None].float())[None].to(parts.device)


def _size(parts):
    return f"{parts.settings.video[1]}x{parts.settings.video[0]}"
