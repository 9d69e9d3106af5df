"""Masks by clicks: SAM 2 ("SAM 2: Segment Anything in Images and Videos", 2024), with the weights of transformers.

Optional: needs the package transformers and weights, a folder or the name of a model on its hub.
"""
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from gi.config.device import find_device
from gi.errors import InputError, one_line
from gi.media.source import VideoSource

BLOCK = 16  # frames that are decoded at once, since a pass backwards cannot have them one by one
REMEMBERED = 20  # frames whose state is kept; the network uses that of the last 7, and object pointers of the last 16


class Click(NamedTuple):
    """A pixel of a frame; label: 1 on the object, 0 beside it."""

    x: float
    y: float
    label: int


class ClickedObject:
    """Segments an object that was clicked on, in one frame or all. Raises InputError if the weights cannot be loaded.
    """

    def __init__(self, weights: str, *, device: str = "auto"):
        from transformers import Sam2VideoModel, Sam2VideoProcessor
        self.device = find_device(device)
        try:
            self.processor = Sam2VideoProcessor.from_pretrained(weights)
            self.model: nn.Module = Sam2VideoModel.from_pretrained(weights, use_safetensors=True).eval()
        except Exception as error:  # whatever these loaders raise for files of all kinds
            raise InputError(f"{weights}: cannot be loaded as SAM 2: {one_line(error)}") from error
        self.model.to(self.device)

    @torch.inference_mode()
    def masks(self, video: VideoSource, frame: int, clicks: Sequence[Click], *,
              carry: bool) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (number, mask), uint8 (H, W), 1 = object, of the clicked frame; with `carry`, also of those after it,
        then of those before it backwards. Memory does not grow with the video.
        """
        size = video.height, video.width
        session = self.processor.init_video_session(inference_device=self.device)
        session.processed_frames = _Frames(video, self.processor, self.model.config.image_size)
        session.video_height, session.video_width = size
        self.processor.add_inputs_to_inference_session(
            session, frame_idx=frame, obj_ids=1, input_points=[[[[click.x, click.y] for click in clicks]]],
            input_labels=[[[click.label for click in clicks]]], original_size=size)
        first = self.model(session, frame_idx=frame)
        passes = [self.model.propagate_in_video_iterator(session, start_frame_idx=frame, reverse=reverse)
                  for reverse in (False, True)] if carry else []
        done = set()
        for output in chain([first], *passes):
            number = output.frame_idx
            if number not in done:
                done.add(number)
                mask = self.processor.post_process_masks([output.pred_masks], [list(size)])[0]
                yield number, mask[0, 0].cpu().numpy().astype(np.uint8)
            for outputs in session.output_dict_per_obj.values():
                kept = outputs["non_cond_frame_outputs"]
                for expired in [index for index in kept if abs(index - number) > REMEMBERED]:
                    del kept[expired]


class _Frames:
    """Replaces the dictionary of all frames that a session would hold: frames are read on demand."""

    def __init__(self, video, processor, size):
        self._video, self._processor = video, processor
        self._size = dict(zip(("height", "width"), [size, size] if isinstance(size, int) else size, strict=True))
        self._start, self._frames = 0, []

    def __len__(self):
        return self._video.count

    def __getitem__(self, number):
        if not self._start <= number < self._start + len(self._frames):
            self._start = number // BLOCK * BLOCK
            self._frames = list(self._video.frames(self._start, min(self._start + BLOCK, self._video.count)))
        frame = self._frames[number - self._start]
        return self._processor.image_processor(frame, size=self._size, return_tensors="pt")["pixel_values"][0]
