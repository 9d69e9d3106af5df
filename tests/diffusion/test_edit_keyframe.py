"""`gi edit-keyframe`: cut, paste, fill."""
import json

import cv2
import numpy as np
import pytest

from gi.commands.edit_keyframe import main, square
from gi.errors import InputError
from gi.media import io
from tests.video_helpers import write_folders

HEIGHT, WIDTH = 60, 100
HOLE = slice(20, 35), slice(70, 90)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    rng = np.random.default_rng(0)
    mask = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    mask[1:, HOLE[0], HOLE[1]] = 1
    frames = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH, 9), dtype=np.uint8), (9, 9), 2)
    return write_folders(tmp_path_factory.mktemp("video"), zip(np.split(frames, 3, axis=2), mask, strict=True))


def words(video, *more, dilate=0):
    return [str(video / "frames"), str(video / "masks"), "--dilate", str(dilate), *map(str, more)]


def frame(video, number=1):
    return io.read_image(video / "frames" / f"{number:05d}.png")


@pytest.mark.parametrize("size, expected, shown", [(768, (0, 40, 60, 100), 60), (44, (5, 56, 49, 100), 44),
                                                   (32, (7, 60, 47, 100), 32)])
def test_cut_and_paste(video, tmp_path, size, expected, shown, capsys):
    """A tool that paints its whole picture green changes the hole and nothing else, whatever size it gives back."""
    assert main(words(video, "--frame", 1, "--cut", tmp_path / "cut.png", "--size", size)) == 0
    assert json.loads((tmp_path / "cut.json").read_text()) == {"frame": 1, "box": list(expected), "dilate": 0}
    cut, mask = io.read_image(tmp_path / "cut.png"), io.read_mask(tmp_path / "cut_mask.png")
    assert cut.shape == (shown, shown, 3) and mask.shape == (shown, shown)
    top, left, bottom, right = expected
    if shown == bottom - top:
        assert np.array_equal(cut, frame(video)[top:bottom, left:right])
        rows, columns = np.nonzero(mask)
        assert [rows.min() + top, rows.max() + top, columns.min() + left, columns.max() + left] == [20, 34, 70, 89]
    for side in (shown, 128):
        io.write_image(tmp_path / "edited.png", np.full((side, side, 3), (0, 200, 0), np.uint8))
        assert main(words(video, "--paste", tmp_path / "edited.png", tmp_path / "key.png", "--place",
                          tmp_path / "cut.json")) == 0
        expected = frame(video).copy()
        expected[HOLE] = 0, 200, 0
        assert np.array_equal(io.read_image(tmp_path / "key.png"), expected)
    assert f"--keyframe 1={tmp_path / 'key.png'}" in capsys.readouterr().out


def test_a_cut_pasted_back_is_the_frame(video, tmp_path):
    """In its own name, and with the dilation that it was cut with."""
    for size, difference in ((60, 0), (40, 40)):
        main(words(video, "--frame", 2, "--cut", tmp_path / "cut.png", "--size", size, dilate=3))
        main([*words(video)[:2], "--paste", str(tmp_path / "cut.png"), str(tmp_path / "key.png")])
        pasted, original = io.read_image(tmp_path / "key.png").astype(int), frame(video, 2)
        assert np.abs(pasted - original).max() <= difference
        assert (pasted != original).any() == (difference > 0)


def test_soft_edge(video, tmp_path):
    """A tool whose picture is 30 brighter throughout: the step is gone at the border, and whole in the middle."""
    main(words(video, "--frame", 1, "--cut", tmp_path / "cut.png"))
    io.write_image(tmp_path / "cut.png", np.clip(io.read_image(tmp_path / "cut.png").astype(int) + 30, 0, 255).astype(
        np.uint8))
    main(words(video, "--paste", tmp_path / "cut.png", tmp_path / "key.png", "--soften", 4))
    difference = io.read_image(tmp_path / "key.png").astype(int) - frame(video)
    assert difference[27, 69:76, 0].tolist() == [0, 6, 12, 18, 24, 30, 30]


def test_shapes_of_cuts():
    """Square where the hole lets it, inside the picture."""
    for rows, columns, expected in (((0, 5), (0, 5), (60, 60)), ((0, 60), (0, 100), (60, 100)),
                                    ((10, 50), (20, 60), (60, 60)), ((0, 60), (40, 60), (60, 60)),
                                    ((5, 20), (10, 80), (60, 70))):
        hole = np.zeros((HEIGHT, WIDTH), bool)
        hole[slice(*rows), slice(*columns)] = True
        box = square(hole, 768)
        assert box.size == expected and box.of(hole).sum() == hole.sum()


def test_fill(video, tmp_path):
    """By the small network: known pixels stay, the hole does not."""
    assert main(words(video, "--frame", 1, "--fill", tmp_path / "key.png", "--device", "cpu")) == 0
    filled, original = io.read_image(tmp_path / "key.png").copy(), frame(video)
    assert (filled[HOLE] != original[HOLE]).mean() > 0.5
    filled[HOLE] = original[HOLE]
    assert np.array_equal(filled, original)


@pytest.mark.parametrize("more, message", [
    (["--cut", "a.png"], "--frame: expected, to say which frame"),
    (["--frame", "1", "--paste", "a.png", "b.png"], "--frame: the file of --place says"),
    (["--frame", "1"], "one of the arguments --cut --paste --fill is required"),
    (["--frame", "3", "--cut", "a.png"], "frame 3: .* has frames 0 to 2"),
    (["--frame", "0", "--cut", "a.png"], "nothing is missing in frame 0"),
    (["--frame", "1", "--cut", "a.jpg"], "a.jpg: expected a name ending with .png"),
    (["--frame", "1", "--cut", "a.png", "--size", "4"], "--size: expected at least 16"),
    (["--paste", "a.png", "b.png"], "a.json: no such file; name the one that --cut wrote"),
    (["--paste", "a.png", "b.png", "--place", "bad.json"], "bad.json: not a file of --cut"),
    (["--paste", "a.png", "b.png", "--place", "far.json"], "far.json: the cut lies outside .* 100x60"),
    (["--paste", "wide.png", "b.png", "--place", "good.json"], "wide.png: 40x20, expected the proportions .* 50x50"),
    (["--paste", "wide.png", "wide.png", "--place", "square.json"], "wide.png: is one of the inputs"),
    (["--paste", "wide.png", "FRAMES/00002.png", "--place", "square.json"], "would overwrite the input"),
    (["--frame", "1", "--cut", "FRAMES/00002.png"], "would overwrite the input"),
    (["--frame", "1", "--cut", "a.png", "--dilate", "101"], "--dilate: expected a number in"),
    (["--frame", "1", "--fill", "FRAMES/new.png"], "would overwrite .* or be a frame of it"),
    *((["--paste", "wide.png", "b.png", "--place", f"hostile{i}.json"], f"hostile{i}.json: ") for i in range(3)),
])
def test_bad_input(video, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    io.write_image("wide.png", np.zeros((20, 40, 3), np.uint8))
    for name, box in (("far", [0, 0, 61, 50]), ("good", [0, 50, 50, 100]), ("square", [15, 40, 45, 100])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"frame": 1, "box": box, "dilate": None}))
    (tmp_path / "bad.json").write_text("[1, 2]")
    good, before = (tmp_path / "good.json").read_text(), frame(video, 2)
    for i, text in enumerate((good.replace("null", '""'), good.replace("null", "9" * 400), "[" * 200_000)):
        (tmp_path / f"hostile{i}.json").write_text(text)
    more = [word.replace("FRAMES", str(video / "frames")) for word in more]
    with pytest.raises(InputError, match=message):
        main(words(video, *more))
    assert not (tmp_path / "b.png").exists() and (frame(video, 2) == before).all()
