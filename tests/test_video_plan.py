"""Index logic of video inpainting: nothing here touches a pixel."""
import pytest

from gi.errors import InputError
from gi.video.keyframes.plan import GUIDES, anchors, chunks, guide_offsets, guides
from gi.video.method import Part, pieces, runs, share


@pytest.mark.parametrize("count, every, expected", [
    (1, 20, [0]),
    (2, 20, [0, 1]),
    (20, 20, [0, 19]),
    (21, 20, [0, 20]),
    (25, 20, [0, 24]),  # 20 is closer than ten frames to the end
    (31, 20, [0, 20, 30]),
    (50, 20, [0, 20, 49]),
    (80, 20, [0, 20, 40, 60, 79]),
    (4, 1, [0, 1, 2, 3]),
])
def test_anchors(count, every, expected):
    assert anchors(count, every=every) == expected


def test_edited_frames_are_anchors():
    assert anchors(50, edited=[7, 49]) == [0, 7, 20, 49]


@pytest.mark.parametrize("count", [1, 2, 3, 19, 20, 21, 29, 30, 31, 40, 59, 161])
@pytest.mark.parametrize("every", [1, 2, 7, 20])
def test_every_frame_belongs_to_one_chunk_of_bounded_length(count, every):
    parts = chunks(anchors(count, every=every, edited=[count // 2]))
    assert [frame for chunk in parts for frame in chunk.frames] == list(range(count))
    assert [chunk.final for chunk in parts] == [False] * (len(parts) - 1) + [True]
    assert max(chunk.last - chunk.first for chunk in parts) <= every + every / 2


def test_the_papers_guides():
    assert guide_offsets(6) == (-40, -20, -10, 10, 20, 40)
    assert guides(100, 300, guide_offsets(14)) == [20, 40, 60, 80, 85, 90, 95, 105, 110, 115, 120, 140, 160, 180]
    assert guide_offsets([30, -10, 30]) == (-10, 30) and guide_offsets(0) == ()


def test_guides_at_the_ends_of_a_video():
    assert guides(0, 100, GUIDES[6]) == [10, 20, 40]
    assert guides(5, 100, GUIDES[6]) == [0, 15, 25, 45]
    assert guides(95, 100, GUIDES[6]) == [55, 75, 85, 99]
    assert guides(1, 3, GUIDES[14]) == [0, 2]
    assert guides(0, 1, GUIDES[14]) == []


def test_edited_frames_guide_every_target():
    assert guides(20, 500, GUIDES[6], edited=[400, 20]) == [0, 10, 30, 40, 60, 400]


def test_of_14_guides_four_a_target_are_new():
    """What makes encoding each guide once worth while (14 streams a target become 4)."""
    targets = anchors(1001)
    wanted = [set(guides(target, 1001, GUIDES[14])) for target in targets]
    new = [len(wanted[i] - set().union(*wanted[:i])) for i in range(10, 40)]
    assert set(new) == {4} and all(len(wanted[i]) == 14 for i in range(10, 40))


def test_pieces_with_their_surroundings():
    assert pieces(10, length=4, reach=2) == [Part(0, 4, 0, 6, 10), Part(4, 8, 2, 10, 10), Part(8, 10, 6, 10, 10)]


@pytest.mark.parametrize("of", [1, 2, 3, 7, 30])
def test_shares_are_a_partition(of):
    parts = pieces(161)
    shares = [share(parts, number, of) for number in range(1, of + 1)]
    assert [part for run in shares for part in run] == parts
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_runs_are_split_where_parts_are_missing():
    parts = pieces(101)
    assert runs(parts) == [parts]
    assert runs(parts[:2] + parts[3:]) == [parts[:2], parts[3:]]
    assert runs([]) == []


@pytest.mark.parametrize("call, message", [
    (lambda: anchors(10, edited=[10]), "edited frame 10: the video has frames 0 to 9"),
    (lambda: guide_offsets(7), "expected 6, 14, 0 or a list of offsets, got 7"),
    (lambda: guide_offsets([-5, 0, 5]), "offset 0 is the target itself"),
    (lambda: share(pieces(1), 3, 2), "chunk 3/2: expected i/n"),
])
def test_bad_plans_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
