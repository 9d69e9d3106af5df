"""Propagates edited frames into the holes of other frames, along the motion through the shot.

From an edited frame outwards, frame by frame, a map of positions in it is carried along, not colours: those are sampled
once, so nothing blurs however far an edit goes. The cost is one map a frame, whatever the distance. Ours.
"""
from collections.abc import Iterator

import torch
from torch import Tensor

from gi.flow.threads import torch_threads
from gi.flow.warp import sample
from gi.media.scale import video_pixels
from gi.video.keyframes.flows import VideoFlows
from gi.video.keyframes.window import Window

AHEAD = 400  # frames that an edit is followed backwards at most, as all of them are kept in memory
LEAP = 2.0  # pixels at 432 x 240: with a larger forward-backward error, a step has reached another motion
AGREE = 0.1  # two edits that differ by less, in colours in [0, 1], are cross-faded; otherwise the nearer one is shown

VisiblePixels = tuple[Tensor, Tensor]  # numbers (N) of pixels, row by row, and their colours (N, 3)


class Edits:
    """Follows the edited frames of a window. `tolerance` limits the error of a step where it is below `LEAP`."""

    def __init__(self, window: Window, flows: VideoFlows, *, tolerance: float):
        self.window, self.flows, self.leap = window, flows, min(tolerance, LEAP)
        self._ways: dict[tuple[int, int], Iterator[int]] = {}  # of edited frame and direction; gives the next frame
        self._next: dict[tuple[int, int], int | None] = {}  # the frame that each way comes to next; None at its end
        self._visible: dict[int, dict[int, VisiblePixels]] = {}  # of frame and edited frame

    def follow(self, first: int, last: int) -> None:
        """Follows the edits from before `last` on to it, and those up to `AHEAD` frames behind it back to `first`.

        The window must hold the frames between; for edits from before `first`, those since the last call's `last`.
        """
        with torch_threads(1):  # as all flow between neighbours is estimated
            for edited in self.window.edited:
                if edited < last:
                    self._walk(edited, 1, last)
                if first < edited <= last + AHEAD and edited < self.window.next:
                    self._walk(edited, -1, max(first, edited - AHEAD))

    def forget(self, before: int) -> None:
        """Drops what only the frames before that number need."""
        for key in [(edited, direction) for edited, direction in self._ways if direction < 0 and edited <= before]:
            del self._ways[key], self._next[key]
        self._visible = {number: visible for number, visible in self._visible.items() if number >= before}

    def insert(self, number: int, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`image` (1,3,H,W) with what edits show in its hole `mask` (1,1,H,W), and what is missing still.

        `follow` must have come to this frame. Of the edits before it, and of those behind it, the nearest that is
        visible counts; of the two that remain the nearer one, or a mean weighted by nearness where they agree.
        """
        visible = self._visible.get(number, {})
        if not visible or not mask.any():
            return image, mask
        pixels = image[0].flatten(1).T  # H * W, 3
        before, after = (self._side(number, edits, pixels) for edits in (
            sorted(edited for edited in visible if edited < number),
            sorted((edited for edited in visible if edited > number), reverse=True)))
        (first, first_distance), (second, second_distance) = before, after
        share = second_distance / (first_distance + second_distance)  # of the first, in between
        share = torch.where((first - second).abs().amax(dim=1) < AGREE, share,
                            (first_distance <= second_distance).float())
        share = torch.where(first_distance.isinf(), 0, torch.where(second_distance.isinf(), 1, share))[:, None]
        covered = (torch.minimum(first_distance, second_distance).isfinite().view(1, 1, *mask.shape[-2:])) * mask
        colour = (share * first + (1 - share) * second).T.view_as(image)
        return torch.where(covered > 0, colour, image), mask - covered

    def _side(self, number, edits, pixels):
        """Colours (H * W, 3) of edits from far to near, and in how many frames (H * W) they are, infinity: none."""
        colours, distance = pixels.clone(), torch.full_like(pixels[:, 0], torch.inf)
        for edited in edits:
            index, colour = self._visible[number][edited]
            colours[index], distance[index] = colour, abs(edited - number)
        return colours, distance

    def _walk(self, edited, direction, stop):
        key = edited, direction
        if key not in self._ways:
            self._ways[key] = self._way(edited, direction)
            self._next[key] = next(self._ways[key], None)
        while self._next[key] is not None and (stop - self._next[key]) * direction >= 0:
            self._next[key] = next(self._ways[key], None)

    def _way(self, edited, direction):
        """Gives the number of a frame, and notes what is shown in it when asked for the next one."""
        picture, _ = self.window.frame(edited)
        _, valid = self.window.unedited(edited)  # 1 where the way of a pixel leads to the hole of the edited frame
        height, width = valid.shape[-2:]
        y, x = torch.meshgrid(*(torch.arange(n, device=valid.device).float() for n in (height, width)), indexing="ij")
        grid, limit = torch.stack([x, y], dim=-1).flatten(0, 1), x.new_tensor([width - 1, height - 1])
        offset, gain, number = x.new_zeros(1, 2, height, width), x.new_ones(3), edited
        while valid.any():
            number, previous = number + direction, number
            yield number
            flow, back = self.flows.to_neighbour(number, previous)
            gain = gain * self.flows.gain(number, previous)
            flow = flow[0].flatten(1).T
            position = grid + flow
            missed = (flow + sample(back, position)).abs().mean(dim=1) / video_pixels(1.0, (height, width))
            inside = ((position >= 0) & (position <= limit)).all(dim=1)
            *carried, reached = sample(torch.cat([offset, valid], dim=1), position).unbind(1)
            # With a threshold of one half for bilinear samples, the edge of an edit neither shrinks nor grows on its
            # way.
            valid = (inside & (missed <= self.leap) & (reached > 0.5)).float().view(1, 1, height, width)
            offset = (torch.stack(carried) + flow.T).view_as(offset)
            _, hole = self.window.unedited(number)
            index = (valid * hole).flatten().nonzero()[:, 0]
            if number in self.window.edited:
                valid = valid * (1 - hole)  # from here on the other edit counts
            elif len(index):
                colour = gain * sample(picture, (grid + offset[0].flatten(1).T)[index])
                self._visible.setdefault(number, {})[edited] = index, colour.clamp(0, 1)
