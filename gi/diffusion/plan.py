"""Long videos, coarse to fine: which frames the network sees at once, in which order; pure functions of numbers.

One clip of anchors, spread over the whole video, comes first; then windows that lie between two anchors each, so that
every window knows from the start where it has to arrive (supplement, "long videos"; the reading of it is ours). Anchors
that are too many for one clip are a video of their own, which is planned in the same way.
"""
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

from gi.errors import expect_at_least
from gi.video.method import Part


class Clip(NamedTuple):
    """Frames, by their numbers in the video and in order, that the network sees at once.

    known: those that it gets whole, edited by hand or kept from an earlier clip. kept: those whose result is used.
    """

    frames: tuple[int, ...]
    known: frozenset[int]
    kept: frozenset[int]


class Plan(NamedTuple):
    """coarse: the clips whose kept frames are the anchors; windows: what follows, in any order."""

    coarse: list[Clip]
    windows: list[Part]

    @property
    def anchors(self) -> frozenset[int]:
        """Frames that the coarse clips fill: all of them are given to the windows."""
        return frozenset().union(*(clip.kept for clip in self.coarse))


def coarse_to_fine(count: int, length: int, keyframes: Collection[int] = ()) -> Plan:
    """For a video of `count` frames, clips of at most `length`; keyframes are known whole.

    A window sees `length` frames, also around those it is for, and is for frames between two that are given; of a video
    of up to `length` frames there is one, and no coarse clip. Raises InputError for a length below 3.
    """
    expect_at_least(3, frames=length)
    edited = frozenset(keyframes)
    if count <= length:
        return Plan([], [Part(0, count, 0, count, count)])
    ends = window_ends(count, length, sorted(edited))
    anchors = spread(ends, length, sorted(edited))
    windows = [Part(first, last + (last == count - 1), *_around(first, last, length, count), count)
               for first, last in pairwise(ends)]
    return Plan([clip for clip in _clips(anchors, length, edited) if clip.kept], windows)


def overlapping(count: int, length: int, stride: int) -> list[range]:
    """Windows of `length` frames that begin at most `stride` apart, spread evenly, for temporal MultiDiffusion."""
    if count <= length:
        return [range(count)]
    steps = -(-(count - length) // stride)
    starts = (round(step * (count - length) / steps) for step in range(steps + 1))
    return [range(start, start + length) for start in starts]


def window_ends(count: int, length: int, keyframes: Sequence[int] = ()) -> list[int]:
    """The first and last frame, and frames between: neighbours at most `length` - 1 apart, with as few windows as that
    allows, of much the same size; on keyframes where these leave the choice.
    """
    windows, ends = -(-(count - 1) // (length - 1)), [0]
    for left in range(windows - 1, 0, -1):  # windows that follow this one
        lowest = max(ends[-1] + 1, count - 1 - left * (length - 1))
        highest = min(ends[-1] + length - 1, count - 1 - left)
        even = ends[-1] + (count - 1 - ends[-1]) / (left + 1)
        choice = [number for number in keyframes if lowest <= number <= highest]
        ends.append(min(choice, key=lambda number: abs(number - even), default=round(even)))  # noqa: B023
    return [*ends, count - 1]


def spread(ends: Sequence[int], length: int, keyframes: Sequence[int] = ()) -> list[int]:
    """Anchors: ends of windows and keyframes, and as many more as one clip of `length` has room for, each added where
    the gap is widest. Where nearly every frame is a keyframe, the ends alone, as keyframes are never far then.
    """
    marks = sorted({*ends, *keyframes})
    if len(marks) >= length:
        return marks if 4 * len(marks) <= 3 * (ends[-1] + 1) else list(ends)
    gaps = [stop - start for start, stop in pairwise(marks)]
    pieces = [1] * len(gaps)
    for _ in range(length - len(marks)):
        widest = max(range(len(gaps)), key=lambda place: gaps[place] / pieces[place])
        pieces[widest] += 1
    return [start + round(step * gap / number) for start, gap, number in zip(marks, gaps, pieces, strict=False)
            for step in range(number)] + [marks[-1]]


def _clips(numbers: Sequence[int], length: int, edited: frozenset[int]) -> list[Clip]:
    """Clips that fill the frames `numbers` one after the other, without those edited."""
    if len(numbers) <= length:
        return [_clip(numbers, edited, numbers)]
    places = sorted(place for place, number in enumerate(numbers) if number in edited)
    ends = window_ends(len(numbers), length, places)
    anchors = [numbers[place] for place in spread(ends, length, places)]
    known = edited.union(anchors)
    between = [_clip(numbers[slice(*_around(first, last, length, len(numbers)))], known, numbers[first:last])
               for first, last in pairwise(ends)]
    return _clips(anchors, length, edited) + between


def _clip(frames: Sequence[int], known: frozenset[int], kept: Sequence[int]) -> Clip:
    return Clip(tuple(frames), known.intersection(frames), frozenset(kept) - known)


def _around(first: int, last: int, length: int, count: int) -> tuple[int, int]:
    """Start and stop of `length` frames, no more than there are, with first … last in their middle."""
    start = min(max((first + last + 1 - length) // 2, 0), max(count - length, 0))
    return start, min(start + length, count)
