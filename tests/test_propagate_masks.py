"""gi propagate-masks: an object that is marked in one frame, found in the others."""
import importlib
import itertools
import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from gi.errors import InputError
from gi.media import io
from gi.media.cuts import CutFinder
from gi.media.files import open_video
from gi.media.masks import grow, open_masks
from gi.video.follow_methods import METHODS
from gi.video.method import build
from gi.video.outline import core_of, without_specks
from gi.video.propagate import MaskPropagation, signed_distance
from gi.video.propagate_flow import Annotated, FlowFollower, Follower
from tests.video_helpers import set_turn, sound_packets, write_video

COUNT, HEIGHT, WIDTH = 12, 72, 112
main = importlib.import_module("gi.commands.propagate_masks").main


def texture(seed, height, width, scale=3.0):
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), scale)
    return 128 + 45 * smooth / smooth.std()


def object_video(count=COUNT, seed=0, places=None, bare=False):
    """(frames, masks): a red disc that moves over a blue background, which moves the other way; both have a texture.

    bare: the frames without the disc.
    """
    background = texture(seed, HEIGHT, WIDTH + 4 * count) * (0.3, 0.8, 1)
    disc, frames, masks = texture(seed + 1, 41, 41) * (1, 0.4, 0.3), [], []
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(count):
        row, column = places[number] if places else (36, 30 + 4 * number)
        mask = ((y - row) ** 2 + (x - column) ** 2 <= 15**2).astype(np.uint8)
        frame = background[:, 2 * number:2 * number + WIDTH].copy()
        inside = mask > 0
        if not bare:
            frame[inside] = disc[np.clip(y - row + 20, 0, 40), np.clip(x - column + 20, 0, 40)][inside]
        frames.append(np.clip(cv2.GaussianBlur(frame, (0, 0), 0.7), 0, 255).astype(np.uint8))
        masks.append(mask)
    return frames, masks


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A folder `frames`, and `true`, the masks, as lists of arrays."""
    folder = tmp_path_factory.mktemp("video")
    frames, masks = object_video()
    for number, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        io.write_image(folder / "frames" / f"{number:05d}.png", frame)
        io.write_image(folder / f"{number}.png", 255 * mask)
    io.write_image(folder / "none.png", 0 * masks[0])
    io.write_image(folder / "all.png", 0 * masks[0] + 255)
    io.write_image(folder / "small.png", 255 * masks[0][:, :50])
    return folder


def found(folder):
    pictures = [io.read_image(path) for path in sorted(folder.glob("*.png"))]
    assert all(set(np.unique(picture)) <= {0, 255} for picture in pictures)
    return [(picture[..., 0] > 0).astype(np.uint8) for picture in pictures]


def overlaps(masks, truth):
    return [(a & b).sum() / max(1, (a | b).sum()) for a, b in zip(masks, truth, strict=True)]


# Files ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("frame", [0, 5, 11])
def test_finds_an_object_from_one_frame(video, tmp_path, frame, capsys):
    truth = object_video()[1]
    assert main([str(video / "frames"), str(video / f"{frame}.png"), str(tmp_path / "out"), "--frame", str(frame)]) == 0
    result = found(tmp_path / "out")
    assert min(overlaps(result, truth)) > 0.9
    assert np.array_equal(result[frame], truth[frame])
    assert [path.name for path in sorted((tmp_path / "out").glob("*.png"))] == [f"{i:05d}.png" for i in range(COUNT)]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert "masks found" in capsys.readouterr().err


def test_files_and_what_programs_are_told(video, tmp_path, capsys, monkeypatch):
    frames, truth = object_video()
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "film.mp4", frames, sound="aac", rate=30)
    out, look = Path("masks.mp4"), Path("look.mp4")  # in the current folder
    main([str(tmp_path / "film.mp4"), str(video / "0.png"), str(out), "--overlay", str(look), "--progress", "json",
          "--dilate", "2"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == {"result": str(out), "frames": COUNT}
    assert {"what": "masks found", "done": 11, "total": 11, "seconds_left": 0.0} in lines
    masks = [(frame[..., 0] > 127).astype(np.uint8) for frame in open_video(out).frames()]
    assert min(overlaps(masks, [grow(mask, 2) for mask in truth])) > 0.88
    assert all(set(np.unique(frame)) == {0, 255} for frame in open_video(out).frames())
    for shown, frame, mask in zip(open_video(look).frames(), frames, masks, strict=True):
        assert shown[mask > 0][..., 0].mean() > frame[mask > 0][..., 0].mean() + 20
        assert np.abs(shown[mask == 0].astype(int) - frame[mask == 0]).mean() < 6
    assert [path.name for path in tmp_path.glob(".*")] == []
    main([str(tmp_path / "film.mp4"), str(video / "0.png"), str(tmp_path / "folder")])
    assert sorted(path.name for path in (tmp_path / "folder").glob("*.png"))[-1] == "000011.png"
    assert list(open_masks(tmp_path / "folder", open_video(tmp_path / "film.mp4"), dilate=0).frames())[0].sum() == \
        truth[0].sum()


def test_the_margin_of_an_annotation_stays(video, tmp_path):
    """People draw around an object, and every mask should be as generous."""
    wide = [grow(mask, 4) for mask in object_video()[1]]
    io.write_image(tmp_path / "wide.png", 255 * wide[0])
    main([str(video / "frames"), str(tmp_path / "wide.png"), str(tmp_path / "out")])
    assert min(overlaps(found(tmp_path / "out"), wide)) > 0.9
    frames, masks = object_video()
    assert core_of(frames[0], masks[0]).margin <= 1 and 3 <= core_of(frames[0], wide[0]).margin <= 5


def test_an_object_that_leaves_and_comes_back(tmp_path):
    places = [(36, 90 + 10 * i) for i in range(5)] + [(36, 200)] * 2 + [(36, 130 - 10 * i) for i in range(5)]
    frames, truth = object_video(places=places)
    for number, frame in enumerate(frames):
        io.write_image(tmp_path / "frames" / f"{number:02d}.png", frame)
    for number in (0, 11):
        io.write_image(tmp_path / f"{number}.png", 255 * truth[number])
    last = ["--mask", f"11={tmp_path / '11.png'}"]
    main([str(tmp_path / "frames"), str(tmp_path / "0.png"), str(tmp_path / "out"), *last])
    result = found(tmp_path / "out")
    areas = [int(mask.sum()) for mask in truth]
    assert areas.count(0) == 4
    for area, true, mask in zip(areas, truth, result, strict=True):
        assert area or not mask.any()
        assert area < 350 or overlaps([mask], [true])[0] > 0.9  # a sliver at the border may be missed


def test_an_empty_annotation_says_that_the_object_is_not_there(video, tmp_path, capsys):
    main([str(video / "frames"), str(video / "0.png"), str(tmp_path / "out"), "--mask", f"11={video / 'none.png'}"])
    assert [mask.any() for mask in found(tmp_path / "out")] == [True] * 6 + [False] * 6
    assert "nothing was found in frames 6 to 10" in capsys.readouterr().err


def test_an_interrupted_run_goes_on(video, tmp_path):
    def job(out):
        return MaskPropagation(FlowFollower(), open_video(video / "frames"),
                               {2: object_video()[1][2], 9: object_video()[1][9]}, out)

    list(job(tmp_path / "whole").run())
    steps = job(tmp_path / "out").run()
    found_steps = (step for step in steps if step.stage == "masks found")
    assert [step.done for step in itertools.islice(found_steps, 6)] == [0, 1, 2, 3, 4, 5]
    steps.close()
    steps = [step for step in job(tmp_path / "out").run() if step.stage == "masks found"]
    assert steps[0].done == 5 and steps[-1].done == steps[-1].total == 2 + 6 + 6 + 2
    assert np.array_equal(found(tmp_path / "out"), found(tmp_path / "whole"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_another_shot_needs_an_annotation(video, tmp_path):
    frames, truth = object_video()
    for number, frame in enumerate([*frames[:6], *(255 - frame for frame in frames[6:])]):
        io.write_image(tmp_path / "frames" / f"{number:02d}.png", frame)
    words = [str(tmp_path / "frames"), str(video / "0.png"), str(tmp_path / "out")]
    with pytest.raises(InputError, match="another shot begins with frame 6, .* up to 11 has a mask"):
        main(words)
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]
    main([*words, "--mask", f"8={video / '8.png'}"])
    assert min(overlaps(found(tmp_path / "out"), truth)) > 0.88


@pytest.mark.parametrize("words, message", [
    (["0.png", "--frame", "12"], "0.png: is to be the mask of frame 12, but .* has frames 0 to 11"),
    (["small.png"], "small.png: 50x72, expected 112x72"),
    (["none.png"], "mask of frame 0: is empty"),
    (["all.png"], "mask of frame 0: covers all of it"),
    (["missing.png"], "missing.png: cannot read"),
    (["0.png", "--mask", "x"], "--mask x: expected N=FILE"),
    (["0.png", "--mask", "0=1.png"], "--mask 0=1.png: frame 0 has a mask already"),
    (["0.png", "--method", "flw"], "no such method; did you mean flow"),
    (["0.png", "--method", "gi.video.per_frame.PerFrame"], "is a PerFrame, expected a gi.video.propagate_flow"),
    (["0.png", "steps=3"], "method flow.steps: the method flow has no such parameter"),
    (["0.png", "--threshold", "2"], "threshold: expected a number in"),
    (["0.png", "--dilate", "-1"], "dilate: expected at least 0"),
    (["0.png", "--components", "0"], "components: expected at least 1"),
    (["0.png", "--overlay", "look.txt"], "look.txt: cannot write .txt"),
])
def test_bad_input(video, tmp_path, words, message, monkeypatch):
    monkeypatch.chdir(video)
    with pytest.raises(InputError, match=message):
        main(["frames", words[0], str(tmp_path / "out"), *words[1:]])
    assert not list(tmp_path.iterdir())


def test_two_commands_take_an_object_out_of_a_phone_video(video, tmp_path):
    """Upright by a note in the file, ten bits, 29.97 frames a second, with sound; one mask drawn on its first frame."""
    frames, masks = object_video()
    stored = [np.rot90(frame) for frame in frames]
    write_video(tmp_path / "phone.mp4", stored, sound="aac", rate=Fraction(30000, 1001), form="yuv420p10le",
                options={"crf": "8"})
    set_turn(tmp_path / "phone.mp4", "clockwise")
    phone, out = str(tmp_path / "phone.mp4"), str(tmp_path / "out.mp4")
    main([phone, str(video / "0.png"), str(tmp_path / "masks")])
    inpaint = importlib.import_module("gi.commands.inpaint_video").main
    assert inpaint([phone, str(tmp_path / "masks"), out, "--method", "flow", "--device", "cpu", "--quality", "8"]) == 0
    source, result = open_video(phone), open_video(out)
    assert (result.width, result.height, result.count) == (WIDTH, HEIGHT, COUNT)
    assert result.rate == source.rate == Fraction(30000, 1001) and result.colour.bits == 10
    assert sound_packets(out) == sound_packets(phone)
    bare = object_video(bare=True)[0]
    before, after = (np.mean([np.abs(frame.astype(float) - true)[mask > 0].mean() for frame, true, mask in
                              zip(shown.frames(), bare, masks, strict=True)]) for shown in (source, result))
    assert after < 0.35 * before
    red = [frame[mask > 0].mean(axis=0) @ (1, 0, -1) for frame, mask in zip(result.frames(), masks, strict=True)]
    assert max(red) < 0  # nothing of the disc is left


# Parts ----------------------------------------------------------------------------------------------------------------

class Still(Follower):
    """Finds the object where it was."""

    def find(self, past, frame):
        return past[-1].mask

    def settings(self):
        return {}


def test_between_two_annotations(video, tmp_path):
    """The outline goes from one to the other; a way of one's own is a class."""
    assert isinstance(build("tests.test_propagate_masks.Still", {}, table=METHODS, kind=Follower), Still)
    source, a = open_video(video / "frames"), object_video()[1][0]
    b, far = np.roll(a, 4, axis=1), np.roll(a, 40, axis=1)
    list(MaskPropagation(Still(), source, {0: a, 4: b}, tmp_path / "near").run())
    result = found(tmp_path / "near")
    assert np.array_equal(result[2], (signed_distance(a) + signed_distance(b) > 0).astype(np.uint8))
    to_a, to_b = overlaps(result[:5], [a] * 5), overlaps(result[:5], [b] * 5)
    assert to_a == sorted(to_a, reverse=True) and to_b == sorted(to_b) and to_b[-1] == 1
    assert 0 < signed_distance(np.ones_like(a)).max() <= max(a.shape)  # without an outline, too
    list(MaskPropagation(Still(), source, {0: a, 5: far}, tmp_path / "far").run())
    expected = [a] * 3 + [far] * (COUNT - 3)  # nothing between two that do not overlap
    assert all(map(np.array_equal, found(tmp_path / "far"), expected))


def test_uncovered_background_does_not_trail(video):
    """Plain sampling along the flow would take it for the object."""
    frames, masks = object_video()
    past = [Annotated(frames[0], masks[0]), Annotated(frames[1], masks[1])]
    share, weight = FlowFollower().votes(past, frames[2])
    behind = (masks[1] == 1) & (masks[2] == 0)
    assert (share[behind] > 0.5).mean() < 0.35 and (share[masks[2] > 0] > 0.5).mean() > 0.8
    assert weight.max() <= 1


def test_specks():
    mask = np.zeros((20, 40), np.uint8)
    mask[2:12, 2:12], mask[2:7, 20:25], mask[15, 30] = 1, 1, 1
    assert without_specks(mask, least=25).sum() == 125 and without_specks(mask, least=1).sum() == 126
    assert without_specks(mask, least=1, most=1).sum() == 100 == without_specks(mask, least=1000).sum()
    assert not without_specks(0 * mask, least=1).any()


def test_cuts():
    """Found between shots, not at a flash, nor where the light changes."""
    frames = object_video(10)[0]
    other = [255 - frame for frame in frames]
    brighter = [np.minimum(255, frame * (1 + 0.03 * number)).astype(np.uint8) for number, frame in enumerate(frames)]
    fading = [np.full_like(frames[0], level) for level in range(100, 160, 2)]  # all of it leaves a bin at once
    flash = [*frames[:4], np.full_like(frames[0], 255), *frames[4:]]
    for shown, expected in ((frames + other, [10]), (brighter, []), (fading, []), (flash, []),
                            (frames[:5] + other[:1], [5])):
        finder = CutFinder()
        assert len(list(finder.watch(shown))) == len(shown) and finder.cuts == expected
