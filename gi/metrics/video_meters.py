"""Meters of a single video, as `video_scores` puts them together: they are shown piece after piece, and keep little."""
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from gi.errors import InputError
from gi.flow.estimate import Estimator
from gi.metrics import functional, video
from gi.metrics.i3d import I3D, VideoFeature
from gi.metrics.video import WINDOW


@dataclass(frozen=True)
class Piece:
    """Some frames in a row: truth, composite (n,H,W,3) uint8, hole (n,H,W) bool, and the same as tensors."""

    truth: np.ndarray
    hole: np.ndarray
    composite: np.ndarray
    device: torch.device

    @cached_property
    def images(self) -> Tensor:
        """(2,n,3,H,W) float32 in [0,1]: truth and composite."""
        both = torch.from_numpy(np.stack([self.truth, self.composite])).to(self.device)
        return both.movedim(-1, -3).float() / 255

    @cached_property
    def masks(self) -> Tensor:
        """(n,1,H,W) float32, 1 = missing."""
        return torch.from_numpy(self.hole).to(self.device)[:, None].float()


def pieces(frames: Iterable, size: int, device: torch.device) -> Iterator[Piece]:
    """`size` frames at a time, checked. Raises InputError, naming the frame, for wrong shapes and types."""
    rows: list[tuple] = []
    shape = None
    for number, row in enumerate(frames):
        shape = shape or np.shape(row[0])
        _check(number, row, shape)
        rows.append(row)
        if len(rows) == size:
            yield _piece(rows, device)
            rows = []
    if rows:
        yield _piece(rows, device)


class Pixels:
    """psnr, ssim, ssim2, psnr_hole, ssim_hole."""

    def __init__(self, wanted: set[str]):
        self.ssims = {name: data_range for name, data_range in (("ssim", 1), ("ssim2", 2)) if name in wanted}
        self.values = {name: [] for name in ("psnr", *self.ssims, "psnr_hole", "ssim_hole") if name in wanted}

    def push(self, piece: Piece):
        for truth, composite in zip(piece.truth, piece.composite, strict=True):
            if "psnr" in self.values:
                self.values["psnr"].append(video.psnr(truth, composite))
            if self.ssims:
                scores = video.ssim(truth, composite, *self.ssims.values())
                for name, score in zip(self.ssims, scores, strict=True):
                    self.values[name].append(score)
        for name, function in ("psnr_hole", functional.psnr), ("ssim_hole", functional.ssim):
            if name in self.values:
                self.values[name] += [self._inside(function, piece, frame) for frame in range(len(piece.hole))]

    def result(self) -> dict[str, float]:
        return {name: _mean(values) for name, values in self.values.items()}

    @staticmethod
    def _inside(function: Callable[..., Tensor], piece: Piece, frame: int) -> float:
        rows, columns = piece.hole[frame].any(axis=1).nonzero()[0], piece.hole[frame].any(axis=0).nonzero()[0]
        if not len(rows):
            return math.nan
        # Only the part that matters: the window of SSIM reaches five pixels beyond the hole.
        box = [slice(max(where[0] - 5, 0), where[-1] + 6) for where in (rows, columns)]
        part = (..., *box)
        return function(*piece.images[:, frame:frame + 1][part], piece.masks[frame:frame + 1][part]).item()


class LpipsMean:
    """lpips."""

    def __init__(self, network: nn.Module):
        self.network, self.values = network, []

    @torch.no_grad()
    def push(self, piece: Piece):
        self.values += self.network(*piece.images).tolist()

    def result(self) -> dict[str, float]:
        return {"lpips": float(np.mean(self.values))}


class FrameFeatures:
    """fid: (2,n,d), truth and composites."""

    def __init__(self, network: nn.Module):
        self.network, self.features = network, []

    @torch.no_grad()
    def push(self, piece: Piece):
        self.features.append(torch.stack([self.network(images).float().cpu() for images in piece.images]))

    def result(self) -> dict[str, Tensor]:
        return {"fid": torch.cat(self.features, dim=1)}


class WholeVideo:
    """vfid: (2,1,d). Truth and composite go through the network together."""

    def __init__(self, network: I3D, count: int):
        self.feature = VideoFeature(network, count)

    def push(self, piece: Piece):
        self.feature.push(piece.images)

    def result(self) -> dict[str, Tensor]:
        return {"vfid": self.feature.result().cpu()[:, None]}


class Windows:
    """vfid_clips, (2,n,d), and pvcs: every 10 frames in a row, truth and composite in one pass."""

    def __init__(self, network: I3D, batch_size: int):
        self.network, self.batch_size = network, batch_size
        self.frames: Tensor | None = None  # (2,n,3,H,W), those that windows to come begin with
        self.features, self.distances = [], []

    def push(self, piece: Piece):
        frames = piece.images if self.frames is None else torch.cat([self.frames, piece.images], dim=1)
        starts = range(max(0, frames.shape[1] - WINDOW + 1))
        for first in starts[::self.batch_size]:
            self._measure(torch.stack([frames[:, start:start + WINDOW]
                                       for start in starts[first:first + self.batch_size]], dim=1))
        self.frames = frames[:, len(starts):].clone()

    def result(self) -> dict:
        if not self.distances:  # a short video is held at its last frame
            last = self.frames[:, -1:].expand(-1, WINDOW - self.frames.shape[1], -1, -1, -1)
            self._measure(torch.cat([self.frames, last], dim=1)[:, None])
        return {"vfid_clips": torch.cat(self.features, dim=1), "pvcs": float(np.mean(self.distances))}

    def _measure(self, clips: Tensor):
        """`clips` (2,n,10,3,H,W)"""
        activations = self.network(clips.flatten(0, 1))
        truth, composite = ({name: value.unflatten(0, (2, -1))[i] for name, value in activations.items()}
                            for i in range(2))
        self.distances += video.pvcs(truth, composite).tolist()
        self.features.append(video.video_feature(activations).unflatten(0, (2, -1)).cpu())


class Pairs:
    """pcons and the warp errors: every frame with the next one."""

    def __init__(self, wanted: set[str], estimator: Estimator | None):
        self.values = {name: [] for name in ("pcons", "warp_error", "warp_error_hole") if name in wanted}
        self.estimator, self.last = estimator, None

    @torch.no_grad()
    def push(self, piece: Piece):
        joined = piece
        if self.last is not None:
            joined = Piece(*(np.concatenate([getattr(self.last, name), getattr(piece, name)])
                             for name in ("truth", "hole", "composite")), piece.device)
        self.last = Piece(piece.truth[-1:], piece.hole[-1:], piece.composite[-1:], piece.device)
        if len(joined.hole) < 2:
            return
        if "pcons" in self.values:
            self.values["pcons"] += [video.pcons(*both) for both in zip(
                joined.composite[:-1], joined.hole[:-1], joined.composite[1:], strict=True)]
        if self.estimator is not None:
            (truth, composite), hole = joined.images, joined.masks
            number = torch.arange(len(truth), device=truth.device)
            flow, backward = self.estimator.between(truth, torch.cat([number[:-1], number[1:]]),
                                                    torch.cat([number[1:], number[:-1]])).chunk(2)
            seen = video.visible(flow, backward)
            for name, where in ("warp_error", seen), ("warp_error_hole",
                                                      seen & video.touches_hole(hole[:-1], hole[1:], flow)):
                if name in self.values:
                    self.values[name] += video.warp_error(composite[:-1], composite[1:], flow, where).tolist()

    def result(self) -> dict[str, float]:
        return {name: _mean(values) for name, values in self.values.items()}


# Details --------------------------------------------------------------------------------------------------------------

def _piece(rows: list[tuple], device: torch.device) -> Piece:
    truth, mask, prediction = (np.stack(column) for column in zip(*rows, strict=True))
    hole = mask != 0
    return Piece(truth, hole, video.composite(truth, hole, prediction), device)


def _check(number: int, row: tuple, shape: tuple[int, ...]):
    truth, mask, prediction = map(np.asarray, row)
    for what, image in ("truth", truth), ("prediction", prediction):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise InputError(f"frame {number}: expected {what} (H, W, 3) uint8, got {image.shape} {image.dtype}")
        if image.shape != shape:
            raise InputError(f"frame {number}: expected {what} of shape {shape} as the first frame, got {image.shape}")
    if mask.shape != shape[:2] or mask.dtype not in (np.uint8, np.bool_):
        raise InputError(f"frame {number}: expected a mask {shape[:2]} of uint8 or bool, got {mask.shape} {mask.dtype}")


def _mean(values: list[float]) -> float:
    """Of those that are numbers: without nan, which stands for nothing to measure, and without infinity, unless there
    is nothing else."""
    values = [value for value in values if not math.isnan(value)]
    finite = [value for value in values if not math.isinf(value)]
    return float(np.mean(finite or values)) if values else math.nan
