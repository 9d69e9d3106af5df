"""Every frame of a video goes through the generator's keyframe stream once, however many targets it guides."""
import threading
from collections.abc import Callable, Collection, Hashable, Sequence

import torch
from cachetools import LRUCache
from torch import Tensor, nn

from gi.errors import expect_at_least
from gi.models.blocks import check_inputs
from gi.models.keyframes import join

Guide = tuple[Hashable | None, Callable[[], Tensor]]


class FrameStreams:
    """Predicts targets and keeps the streams of the frames that guided them, the last used `capacity` of them.

    With the paper's 14 guides around every 20th frame, 4 frames per target are new; 40 kept streams are enough for it.
    A kept frame takes, with "ours" in float32, 128 bytes per pixel (144 inside `GuidedCopy`) and 2 MiB for its latents
    on the generator's device, which must be in eval mode: training makes the frames of a batch depend on each other.
    A generator without `encode_keyframes` and `predict` (see `gi.models.keyframes`) is called plainly.
    """

    def __init__(self, generator: nn.Module, capacity: int = 64):
        expect_at_least(1, capacity=capacity)
        self.generator = generator
        self.passes = 0  # frames that went through the keyframe stream
        self._kept, self._lock = LRUCache(capacity), threading.Lock()

    @torch.no_grad()
    def predict(self, target: Tensor, guides: Sequence[Guide], flows: Tensor, errors: Tensor) -> Tensor:
        """What `generator(target, keyframes, flows, errors)` returns, up to rounding: RGB (1,3,H,W) in [0,1].

        guides: for each of T keyframes the key that stands for its content, None if it will not be needed again, and a
        function that makes it, (1,4,H,W) as the target, called only if that key's stream is not at hand. flows:
        (1,T,2,H,W) from the target to each keyframe, in pixels; errors: (1,T,1,H,W). Keyframes with a key are of one
        size. Raises InputError if flows and errors do not fit the target.
        """
        check_inputs(target, target[:, None].expand(-1, len(guides), -1, -1, -1), flows, errors)
        if not hasattr(self.generator, "encode_keyframes"):
            self.passes += len(guides)
            frames = [make() for _, make in guides]
            sources = torch.stack(frames, dim=1) if frames else target.new_zeros(1, 0, *target.shape[1:])
            return self.generator(target, sources, flows, errors)
        keyframes = join([self._stream(*guide) for guide in guides])
        return self.generator.predict(target, keyframes, flows, errors)

    def keep(self, keys: Collection[Hashable]) -> None:
        """Drops the streams of all frames but these."""
        for key in [key for key in self._kept if key not in keys]:
            del self._kept[key]

    def _stream(self, key, make):
        if key is None:
            self.passes += 1
            return self.generator.encode_keyframes(make()[:, None])
        with self._lock:  # if two threads need the same stream, the second one finds it
            if key in self._kept:
                return self._kept[key]
            self.passes += 1
            stream = self.generator.encode_keyframes(make()[:, None])
            if stream.blocks:  # streams without features are not worth the memory
                self._kept[key] = stream
            return stream
