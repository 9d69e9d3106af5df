"""Which frames are key targets, which frames guide them, and into which independent chunks a video is split.

Pure arithmetic on frame numbers (paper, supplement A).
"""
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gi.errors import InputError

EVERY = 20
# The paper's two sets of keyframes, as offsets from the target.
GUIDES = {6: (-40, -20, -10, 10, 20, 40), 14: (-80, -60, -40, -20, -15, -10, -5, 5, 10, 15, 20, 40, 60, 80)}


class Chunk(NamedTuple):
    """Frames first … last - 1 between the anchors `first` and `last`; the last chunk of a video includes its `last`."""

    first: int
    last: int
    final: bool

    @property
    def frames(self) -> range:
        """The frames this chunk delivers; its neighbours share its anchors with it, not these."""
        return range(self.first, self.last + self.final)

    @property
    def anchors(self) -> tuple[int, ...]:
        return (self.first, self.last) if self.last > self.first else (self.first,)


def guide_offsets(guides: int | Sequence[int]) -> tuple[int, ...]:
    """The paper's offsets for 6 or 14 guides, none for 0, or any list of one's own, sorted and without repetitions."""
    if isinstance(guides, int):
        if guides == 0:
            return ()
        if guides not in GUIDES:
            raise InputError(f"guides: expected {', '.join(map(str, GUIDES))}, 0 or a list of offsets, got {guides}")
        return GUIDES[guides]
    if 0 in guides:
        raise InputError("guides: offset 0 is the target itself, which cannot guide")
    return tuple(sorted(set(guides)))


def anchors(count: int, *, every: int = EVERY, edited: Iterable[int] = ()) -> list[int]:
    """Frames that are filled first, sorted: 0, every, 2·every, …, the last frame, and the edited ones.

    The last frame takes the place of a key target closer to it than every / 2, so that no chunk is tiny.
    """
    edited = set(edited)
    if outside := [frame for frame in edited if not 0 <= frame < count]:
        raise InputError(f"edited frame {outside[0]}: the video has frames 0 to {count - 1}")
    regular = {frame for frame in range(0, count, every) if frame == 0 or count - 1 - frame >= every / 2}
    return sorted(regular | {count - 1} | edited)


def chunks(anchors: Sequence[int]) -> list[Chunk]:
    """The chunks between neighbouring anchors; a video of one frame is one chunk of one anchor."""
    if len(anchors) == 1:
        return [Chunk(anchors[0], anchors[0], True)]
    return [Chunk(first, last, last == anchors[-1]) for first, last in itertools.pairwise(anchors)]


def guides(target: int, count: int, offsets: Sequence[int], *, edited: Iterable[int] = ()) -> list[int]:
    """Frames that guide `target`, sorted, each once: those at its offsets, and all the edited ones.

    Where an offset leads out of the video, its first or last frame takes its place.
    """
    frames = {min(max(target + offset, 0), count - 1) for offset in offsets}
    return sorted((frames | set(edited)) - {target})
