"""Optical flow between the frames of a video, estimated once per pair of frames and completed inside their holes."""
import contextlib
import threading
from collections.abc import Container
from concurrent.futures import Executor, Future

import torch
import torch.nn.functional as F
from cachetools import LRUCache
from torch import Tensor

from gi.flow.align import align
from gi.flow.guidance import FlowGuidance
from gi.flow.layers import background_flow, continue_flow
from gi.flow.unseen import GROWTH, grow_hole, smooth_fill
from gi.flow.warp import forward_backward_error, resize_flow
from gi.flow.window import corner, window_around
from gi.heap import LARGE, release_freed
from gi.media.scale import video_pixels
from gi.video.keyframes.window import Window

# Lengths are pixels at 432 x 240, see `video_pixels`.
CONSISTENT = 1.0  # brightness is compared where the forward-backward error is smaller
# When flow close to a hole is used, see `complete`: differences are means of colours in [0, 1].
BETTER, VISIBLY = 0.7, 0.01
RADIUS = 3  # a difference is averaged over a square that reaches so far to each side
ENOUGH = 0.3  # of such a square must be known


class VideoFlows:
    """Flow between neighbours, for following pixels, and between a target and its guides, for the generator.

    Each pair is estimated on its own, in both directions: results do not depend on what is kept, so chunks computed
    apart equal chunks computed one after the other. The most recently used flow is cached on the host, up to `budget`
    bytes. `guidance` has the estimator, and says how the generator wants its flow; it must have `mask_images`. Several
    threads may ask at once. `pool` estimates what `expect` announces, and flow to several guides at once; None: one
    after the other, when it is asked for.
    """

    def __init__(self, guidance: FlowGuidance, window: Window, *, budget: int = 1 << 29):
        self.guidance, self.window = guidance, window
        self.pool: Executor | None = None
        self._lock, self._begun = threading.Lock(), dict[tuple[str, int, int], Future[Tensor]]()
        # Limits the pool and its callers together: more work at once than there are cores would only take memory.
        self._at_work = threading.Semaphore(torch.get_num_threads())
        self.kept = LRUCache(budget, getsizeof=lambda value: value.nbytes)
        self._targets: Container[int] = ()

    def to_neighbour(self, number: int, neighbour: int) -> tuple[Tensor, Tensor]:
        """Flow (1,2,h,w) from a frame to the one before or after it, and back, in pixels of the window's size.

        Estimated at that size, and completed in the holes, see `complete`.
        """
        first, second = sorted((number, neighbour))
        both = resize_flow(self._cached("neighbour", first, second, self._both), self.window.size)
        return both.split(1) if number == first else both.flip(0).split(1)

    def expect(self, number: int, neighbour: int) -> None:
        """Announces that `to_neighbour` will be called for these two; the window must hold both until the pool is done.
        """
        if self.pool is None:
            return
        first, second = sorted((number, neighbour))
        with self._lock:
            known = any(("neighbour", first, second) in some for some in (self.kept, self._begun))
        if not known:
            self.pool.submit(torch.inference_mode()(self.to_neighbour), first, second)

    def gain(self, number: int, neighbour: int) -> Tensor:
        """(3,) what the colours of the frame before or after are to be multiplied by to be as bright as this one's."""
        first, second = sorted((number, neighbour))
        gain = self._cached("gain", first, second, self._gain)
        return gain if number == first else 1 / gain

    def to_guides(self, target: int, guides: list[int]) -> tuple[Tensor, Tensor]:
        """From a frame to its guides: flows (1,T,2,h,w) and errors (1,T,1,h,w) as the generator was trained with."""
        _, mask = self.window.frame(target)
        flows, errors = (mask.new_empty(1, len(guides), channels, *mask.shape[-2:]) for channels in (2, 1))

        def estimate(i, guide):
            flows[:, i:i + 1], errors[:, i:i + 1] = self.guidance.complete(
                self._estimated(target, guide).float()[:, None, None], mask)
            release_freed(after=self.window.size)

        # As many at a time as the pool has threads, so that memory hardly grows with the number of guides.
        each = map if self.pool is None else self.pool.map
        for _ in each(torch.inference_mode()(estimate), range(len(guides)), guides):
            pass
        return flows, errors

    def drop(self, before: int, *, targets: Container[int] = ()) -> None:
        """Forgets flow between neighbours before a frame, and now and later that to guides that won't be `targets`."""
        self._targets = targets
        for kind, first, second in list(self.kept):
            if (second not in targets) if kind == "guide" else (first < before):
                del self.kept[kind, first, second]

    def _cached(self, kind, first, second, make, *, keep=True):
        """The result of `make` for two frames, on the window's device; cached on the host with `keep`."""
        key = kind, first, second
        with self._lock:
            if key in self.kept:
                return self.kept[key].to(self.window.device)
            if (pending := self._begun.get(key)) is None:
                own = self._begun[key] = Future[Tensor]()
        if pending is not None:  # another thread is at work on it
            return pending.result()
        try:
            own.set_result(value := make(first, second))
        except BaseException as error:
            own.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._begun[key]
                if own.exception() is None and keep and own.result().nbytes <= self.kept.maxsize:
                    self.kept[key] = own.result().cpu().contiguous()
        return value

    def _both(self, first, second):
        with self._working():
            ends = self.window.unedited(first), self.window.unedited(second)  # edits would distort the flow
            both = self._estimate(smooth_fill, ends).split(1)
            flows = zip(both, both[::-1], ends, reversed(ends), strict=True)
            completed = torch.cat([complete(flow, back, *end, *opposite) for flow, back, end, opposite in flows])
            size = completed.shape[-2:]
            if max(size) > LARGE:  # most estimators look at such frames at half their size as well
                completed = resize_flow(completed, [(side + 1) // 2 for side in size])
            return completed.half()  # half the memory; of a flow of 30 pixels it takes a hundredth of a pixel

    def _gain(self, first, second):
        flow, back = self.to_neighbour(first, second)
        error = forward_backward_error(flow, back)
        image, mask = self.window.unedited(first)
        warped, visible = align(*self.window.unedited(second), flow)
        both = visible * (1 - mask) * (error < video_pixels(CONSISTENT, error.shape[-2:]))
        own_mean, warped_mean = ((colours * both).mean(dim=(0, 2, 3)) for colours in (image, warped))
        return torch.where(warped_mean > 1e-3, own_mean / warped_mean.clamp(min=1e-3), 1).clamp(0.8, 1.25)

    def _estimated(self, target, guide):
        """Flow from target to guide and back, (2, 2, h, w), at the size of the guidance."""
        first, second = sorted((target, guide))
        flows = self._cached("guide", first, second, self._guide_flows, keep=guide in self._targets)
        return flows if target == first else flows.flip(0)

    def _guide_flows(self, first, second):
        with self._working():
            frames = [self.window.frame(number) for number in (first, second)]
            flows = self._estimate(self.guidance.estimator_input, frames)
            return flows.half() if max(self.window.size) > LARGE else flows

    @contextlib.contextmanager
    def _working(self):
        with self._at_work:
            yield
        release_freed(after=self.window.size)

    def _estimate(self, prepare, ends):
        images = torch.cat([prepare(*end) for end in ends])
        number = torch.arange(2, device=images.device)
        return self.guidance.estimated(images, number, number.flip(0))


def complete(flow: Tensor, back: Tensor, image: Tensor, mask: Tensor, other: Tensor, other_mask: Tensor) -> Tensor:
    """Flow (1,2,H,W) from `image` to `other`, in the hole `mask` (1,1,H,W) that of the layer around it.

    See `gi.flow.layers`, also for `back`, the flow from `other`.
    What an estimator sees in a hole distorts the flow along its edge, so flow in a ring around it is replaced, too,
    except where the estimate aligns the known pixels of both images (1,3,H,W) clearly better than the continuation from
    farther away does.
    """
    if not mask.any():
        return flow
    size = mask.shape[-2:]
    ring = grow_hole(mask, round(video_pixels(GROWTH, size)))
    background = background_flow(flow, back, ring)
    continued = continue_flow(flow, ring, background)
    radius = round(video_pixels(RADIUS, size))
    near = ..., *window_around(ring > 0, margin=radius)
    (estimate, share), (alternative, alternative_share) = (
        _mismatch(image, mask, other, other_mask, candidate, near, radius) for candidate in (flow, continued))
    believed = torch.zeros_like(ring, dtype=torch.bool)
    believed[near] = (share > ENOUGH) & (alternative_share > ENOUGH) & (estimate < BETTER * alternative - VISIBLY)
    return continue_flow(flow, torch.maximum(mask, ring * ~believed), background)


def _mismatch(image, mask, other, other_mask, flow, near, radius):
    """Mean difference of what is known in both images, over small squares `near` a hole, and their known share.

    `near` is the index of a rectangle, which both results are of.
    """
    warped, visible = align(other, other_mask, flow[near], corner=corner(near[1:]))
    known = visible * (1 - mask[near])
    difference = (warped - image[near]).abs().mean(dim=1, keepdim=True) * known
    layers = torch.cat([difference, known], dim=1)
    for across, down in ((radius, 0), (0, radius)):  # one after the other costs a third of both at once
        layers = F.avg_pool2d(layers, (2 * down + 1, 2 * across + 1), stride=1, padding=(down, across))
    difference, share = layers.split(1, dim=1)
    return difference / share.clamp(min=1e-6), share
