"""Coarse to fine: what every plan promises, for many lengths, windows and keyframes."""
from itertools import pairwise

import numpy as np
import pytest

from gi.diffusion.plan import coarse_to_fine, overlapping, spread, window_ends
from gi.errors import InputError

CASES = [(count, length, keyframes) for length in (3, 4, 8, 14, 25)
         for count in (1, 2, length, length + 1, 2 * length, 60, (length - 1) ** 2 + 1, (length - 1) ** 2 + 2, 1000)
         for keyframes in ("none", "first", "some", "most", "all")]


def numbers(kind, count):
    rng = np.random.default_rng(count)
    return {"none": [], "first": [0], "some": [*{0, count // 3, count - 1}],
            "most": np.flatnonzero(rng.random(count) < 0.9).tolist(), "all": list(range(count))}[kind]


@pytest.mark.parametrize("count, length, kind", CASES)
def test_promises(count, length, kind):
    keyframes = numbers(kind, count)
    plan, edited = coarse_to_fine(count, length, keyframes), frozenset(keyframes)
    # Every frame exactly once: by hand, by a coarse clip or by a window.
    done = list(edited)
    for clip in plan.coarse:
        assert list(clip.frames) == sorted(set(clip.frames)) and len(clip.frames) <= length
        assert clip.kept
        # What a clip is given has been made before it, and nothing is made twice.
        assert clip.known <= set(done) and clip.kept.isdisjoint(done) and clip.kept <= set(clip.frames)
        if len(done) > len(edited):  # all but the first lie between frames that are given
            inside = [place for place, number in enumerate(clip.frames) if number in clip.kept]
            assert {*clip.frames[:min(inside, default=0)]} & clip.known or not inside
            assert not inside or any(number in clip.known for number in clip.frames[max(inside):])
        done += sorted(clip.kept)
    given = edited | plan.anchors
    done += [number for part in plan.windows for number in part.frames if number not in given]
    assert sorted(done) == list(range(count))
    # Windows end on anchors and see as many frames as the network takes.
    for part in plan.windows:
        assert part.start <= part.first < part.stop <= part.end and part.end - part.start == min(length, count)
        last = part.stop - (part.stop == count)
        assert count <= length or ({part.first, last} <= given and last < part.end)
    assert [part.first for part in plan.windows[1:]] == [part.stop for part in plan.windows[:-1]]
    assert len(plan.windows) == max(1, -(-(count - 1) // (length - 1)))


@pytest.mark.parametrize("count, coarse, windows", [(25, 0, 1), (26, 1, 2), (60, 1, 3), (577, 1, 24), (578, 2, 25),
                                                    (1000, 3, 42)])
def test_clips_of_the_published_length(count, coarse, windows):
    """One level reaches 24 · 24 + 1 frames. 26 anchors are one clip of 25 and one for the last, 43 one and two."""
    plan = coarse_to_fine(count, 25, [0])
    assert (len(plan.coarse), len(plan.windows)) == (coarse, windows)


def test_anchors_are_spread():
    anchors = spread([0, 20, 39, 59], 25)
    assert len(anchors) == 25 and {0, 20, 39, 59} <= {*anchors} and {*np.diff(anchors)} == {2, 3}
    for count in (26, 60, 100, 313, 553):
        anchors = spread(window_ends(count, 25, [7]), 25, [7])
        gaps = [last - first for first, last in pairwise(anchors)]
        assert len(anchors) == 25 and {0, 7, count - 1} <= {*anchors} and max(gaps) <= 24


def test_windows_end_on_keyframes_where_they_can():
    assert window_ends(60, 25) == [0, 20, 40, 59]
    assert window_ends(60, 25, [17, 41]) == [0, 17, 41, 59]
    assert window_ends(60, 25, [5]) == [0, 20, 40, 59]  # would need a fourth window


def test_overlapping_windows():
    assert overlapping(5, 8, 4) == [range(5)]
    assert overlapping(20, 8, 4) == [range(start, start + 8) for start in (0, 4, 8, 12)]
    found = overlapping(59, 8, 4)
    assert {number for window in found for number in window} == {*range(59)}
    assert max(b.start - a.start for a, b in pairwise(found)) <= 4


def test_length_that_is_too_short():
    with pytest.raises(InputError, match="frames: expected at least 3, got 2"):
        coarse_to_fine(10, 2)
