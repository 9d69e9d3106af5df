"""Items made on another thread: all of them, in order, few at a time, and errors where they belong."""
import pytest

from gi.media.prefetch import prefetch


def test_items_come_in_order_and_no_more_are_made_than_the_depth_says():
    made = []

    def numbers():
        for number in range(6):
            made.append(number)
            yield number

    ahead = prefetch(numbers(), depth=2)
    assert [next(ahead), next(ahead)] == [0, 1]
    ahead.close()
    assert made[:2] == [0, 1] and len(made) <= 2 + 2
    assert list(prefetch(iter(range(5)), depth=3)) == [0, 1, 2, 3, 4]
    assert list(prefetch(iter([]))) == []


def test_an_error_comes_after_the_items_before_it():
    def broken():
        yield 1
        raise ValueError("frame 1 is damaged")

    ahead = prefetch(broken())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="frame 1 is damaged"):
        next(ahead)
