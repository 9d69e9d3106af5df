"""Folders and files of videos: paired, scored, and shown on a page that is complete by itself."""
import csv
import html.parser
import json
import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import av
import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from gi.errors import InputError
from gi.media.io import write_image
from gi.metrics.metric import with_weights
from gi.metrics.video import VIDEO_METRICS
from gi.metrics.video_folder import Clip, find_videos
from gi.metrics.video_scores import VideoScores
from gi.report import results
from gi.report import video as video_report
from gi.report.scores import score_table, video_table
from gi.report.tables import Table
from gi.report.video import Film
from gi.video import evaluation as video_evaluation

HEIGHT, WIDTH, COUNT = 56, 64, 4
FREE = ("psnr", "ssim", "ssim2", "psnr_hole", "pcons")  # of weights
HOSTILE = "<img src=x onerror=alert(1)> & \"'#%?"


def frames(seed=0, count=COUNT):
    """A pattern that moves one pixel a frame."""
    image = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return [np.roll(image, i, axis=1) for i in range(count)]


def holes(count=COUNT):
    masks = np.zeros((count, HEIGHT, WIDTH), np.uint8)
    for i, mask in enumerate(masks):
        mask[20:30, 10 + i : 30 + i] = 1
    return masks


def darker(pictures):
    return [(picture * 0.8).astype(np.uint8) for picture in pictures]


def write_devil(truth, predictions, pictures, predicted, masks=None):
    for i, (picture, mask, prediction) in enumerate(zip(pictures, holes() if masks is None else masks, predicted,
                                                        strict=True)):
        write_image(truth / f"frame_{i:04d}_gt.png", picture)
        write_image(truth / f"frame_{i:04d}_mask.png", 255 * (1 - mask))
        write_image(predictions / f"frame_{i:04d}_pred.png", prediction)


def write_plain(truth, predictions, pictures, predicted):
    for i, (picture, mask, prediction) in enumerate(zip(pictures, holes(), predicted, strict=True)):
        write_image(truth / "frames" / f"{i}.png", picture)
        write_image(truth / "masks" / f"{i}.png", 255 * mask)
        write_image(predictions / f"{i}.png", prediction)


def write_film(path, pictures):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def devil(tmp_path):
    for seed, name in enumerate(("b", "a")):
        write_devil(tmp_path / "truth" / name, tmp_path / "method" / name, frames(seed), darker(frames(seed)))
    return tmp_path / "truth", tmp_path / "method"


@pytest.fixture
def run(run_script):
    return run_script("evaluate_video")


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.references = [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attributes)
        self.references += [value for name, value in attributes if name in ("src", "href", "poster")]

    def handle_data(self, data):
        self.text.append(data)


# Finding and reading --------------------------------------------------------------------------------------------------

def same(clip, pictures, predicted):
    found = list(clip.frames())
    assert clip.count == len(found) == COUNT and (clip.truth.width, clip.truth.height) == (WIDTH, HEIGHT)
    for (truth, mask, prediction), *expected in zip(found, pictures, holes(), predicted, strict=True):
        for array, wanted in zip((truth, mask, prediction), expected, strict=True):
            assert array.dtype == np.uint8 and np.array_equal(array, wanted)


def test_benchmark_has_black_holes(devil):
    pairs, problems = find_videos(*devil)
    assert [pair.name for pair in pairs] == ["a", "b"] and not problems
    same(Clip(pairs[1]), frames(0), darker(frames(0)))
    (pair,), _ = find_videos(devil[0] / "a", devil[1] / "a")  # one video, whose frames lie in the folders themselves
    same(Clip(pair), frames(1), darker(frames(1)))
    (pair,), _ = find_videos(devil[0] / "a", devil[1] / "a", inverted=True)
    for mask, hole in zip(Clip(pair).holes.frames(), holes(), strict=True):
        assert np.array_equal(mask, 1 - hole)


def test_plain_folders_have_white_holes(tmp_path):
    truth, predictions = tmp_path / "truth", tmp_path / "method"
    write_plain(truth / "a", predictions / "a", frames(), darker(frames()))
    write_plain(truth / "b", predictions / "unused", frames(1), darker(frames(1)))
    write_film(predictions / "b.mkv", darker(frames(1)))
    pairs, problems = find_videos(truth, predictions)
    assert problems == {"unused": "missing among the truth"}
    for seed, pair in enumerate(pairs):
        same(Clip(pair), frames(seed), darker(frames(seed)))
    for prediction in predictions / "a", predictions:  # a single video
        (pair,), problems = find_videos(truth / "a", prediction)
        assert not problems
        same(Clip(pair), frames(), darker(frames()))
    (pair,), _ = find_videos(truth / "a", predictions, inverted=True)
    assert np.array_equal(list(Clip(pair).holes.frames()), 1 - holes())


def test_palettes_of_object_masks(tmp_path):
    write_plain(tmp_path / "a", tmp_path / "method", frames(), frames())
    for i, hole in enumerate(holes()):
        image = Image.fromarray(2 * hole).convert("P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 90, 0])  # dark colours, as of the second object
        image.save(tmp_path / "a" / "masks" / f"{i}.png")
    (pair,), _ = find_videos(tmp_path / "a", tmp_path / "method")
    assert np.array_equal(list(Clip(pair).holes.frames()), holes())


def test_video_files(tmp_path):
    write_film(tmp_path / "truth.mkv", frames())
    write_film(tmp_path / "filled.mkv", darker(frames()))
    write_film(tmp_path / "holes.mkv", [255 * np.repeat(mask[..., None], 3, axis=2) for mask in holes()])
    (pair,), _ = find_videos(tmp_path / "truth.mkv", tmp_path / "filled.mkv", tmp_path / "holes.mkv")
    assert pair.name == "truth"
    same(Clip(pair), frames(), darker(frames()))
    write_image(tmp_path / "still.png", 255 * holes()[0])
    (pair,), _ = find_videos(tmp_path / "truth.mkv", tmp_path / "filled.mkv", tmp_path / "still.png")
    assert np.array_equal(list(Clip(pair).holes.frames()), np.stack([holes()[0]] * COUNT))


def test_what_does_not_fit_is_named(devil, tmp_path):
    truth, predictions = devil
    write_devil(truth / "c", predictions / "d", frames(), frames())
    (truth / "e").mkdir()
    (predictions / "e").mkdir()
    outside = tmp_path / "outside"
    write_devil(outside, predictions / "f", frames(), frames())
    (truth / "f").symlink_to(outside, target_is_directory=True)
    pairs, problems = find_videos(truth, predictions)
    assert [pair.name for pair in pairs] == ["a", "b"]
    assert problems["c"] == "missing among the predictions" and problems["d"] == "missing among the truth"
    assert "neither" in problems["e"] and "leads out of this folder" in problems["f"]
    for link in (truth / "a" / "frame_0001_gt.png", predictions / "b" / "frame_0002_pred.png"):
        link.unlink()
        link.symlink_to(outside / "frame_0000_gt.png")
    for pair in pairs:
        with pytest.raises(InputError, match="leads out of this folder"):
            Clip(pair)


def drop(path):
    path.unlink()


def shrink(path):
    write_image(path, frames()[0][:-1])


def damage(path):
    path.write_bytes(b"no picture")


@pytest.mark.parametrize(("change", "file", "message"), [
    (drop, "truth/a/frame_0002_mask.png", r"truth/a: no frame_0002_mask to .*frame_0002_gt"),
    (drop, "truth/a/frame_0002_gt.png", r"truth/a: no frame_0002_gt to .*frame_0002_mask"),
    (drop, "method/a/frame_0003_pred.png", r"method/a: no frame_0003_pred to .*frame_0003_gt"),
    (shrink, "method/a/frame_0001_pred.png", r"frame_0001_pred.png: the image has 64x55 pixels, expected 64x56"),
    (damage, "truth/a/frame_0001_gt.png", r"frame_0001_gt.png: cannot read this image"),
])
def test_bad_frames(devil, tmp_path, change, file, message):
    change(tmp_path / file)
    pairs, _ = find_videos(*devil)
    clips, problems = video_evaluation.open_clips(pairs)
    assert [clip.name for clip in clips] == ["b"] and list(problems) == ["a"]
    with pytest.raises(InputError, match=message) as error:
        Clip(pairs[0])
    assert "\n" not in str(error.value)


def test_counts_and_sizes(tmp_path):
    write_plain(tmp_path / "a", tmp_path / "method", frames(), frames())
    for i in range(COUNT + 1):
        write_image(tmp_path / "long" / f"{i}.png", frames()[0])
    for i in range(COUNT):
        write_image(tmp_path / "small" / f"{i}.png", frames()[0][:, 1:])
    for name, message in ("long", "long: has 5 frames, expected 4"), ("small", "small: is 63x56, expected 64x56"):
        (pair,), _ = find_videos(tmp_path / "a", tmp_path / name)
        with pytest.raises(InputError, match=message):
            Clip(pair)


def renumber(folder, shift):
    files = [(path, int(path.stem) + shift) for path in folder.iterdir()]
    for path, number in sorted(files, reverse=shift > 0):
        path.rename(path.with_stem(str(number)))


def test_other_numbers_are_told(tmp_path, run):
    truth, predictions = tmp_path / "truth", tmp_path / "method"
    write_plain(truth / "a", predictions, frames(), darker(frames()))
    renumber(truth / "a" / "masks", 2)
    renumber(predictions, 1)
    words = truth / "a", predictions, "--metrics", "psnr", "--device", "cpu"
    status, printed = run(*words)
    assert status == 0
    assert f"{truth / 'a' / 'masks'}: numbered from 2, the frames from 0: taken in their order\n" in printed.err
    assert f"{predictions}: numbered from 1, the frames from 0: taken in their order\n" in printed.err
    renumber(predictions, 9)  # no number is in both
    assert run(*words)[0] == 0
    renumber(predictions, -8)
    status, printed = run(*words)
    assert status == 2 and f"{predictions}: numbered from 2, {truth / 'a' / 'frames'} from 0; expected" in printed.err


# Pictures -------------------------------------------------------------------------------------------------------------

def test_film_shows_truth_hole_and_composite(tmp_path):
    truth, masks = [np.full((40, 60, 3), 200, np.uint8)] * 6, np.zeros((6, 40, 60), np.uint8)
    masks[:, 10:16, 20:40] = 1
    film = Film(tmp_path, "a", masks, count=6, rate=Fraction(25))
    prediction = [np.full((40, 60, 3), 20 * i, np.uint8) for i in range(6)]
    passed = list(film.watch(zip(truth, masks, prediction, strict=True)))
    assert len(passed) == 6 and film.row in range(12, 14)
    assert all(a is b for row, *given in zip(passed, truth, prediction, strict=True)
               for a, b in zip(row[::2], given, strict=True))
    player, slices = film.wide
    with av.open(str(tmp_path / player.path)) as container:
        assert container.streams.video[0].codec.name == "h264" and container.streams.video[0].average_rate == 25
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == 6 and all(frame.shape == (player.height, player.width, 3) for frame in shown)
    step = 60 + video_report.GAP
    for i, frame in enumerate(shown):
        assert np.abs(frame[13, 30].astype(int) - 200).max() < 12  # truth
        assert frame[13, step + 24 : step + 36].max() < 190  # hatched
        assert np.abs(frame[13, 2 * step + 30].astype(int) - 20 * i).max() < 12  # prediction in the hole
        assert np.abs(frame[30, 2 * step + 30].astype(int) - 200).max() < 12  # and truth around it
    picture = np.asarray(Image.open(tmp_path / slices.path).convert("RGB")).astype(int)
    assert picture.shape == (slices.height, slices.width, 3)
    height = (len(picture) - 2 * video_report.GAP) // 3
    filled = picture[-height:, 30, 0].reshape(6, -1).mean(axis=1)
    assert np.abs(filled - 20 * np.arange(6)).max() < 15
    assert np.abs(picture[height + video_report.GAP : -height - video_report.GAP] - 200).max() < 15


def test_film_of_a_long_video_keeps_little(tmp_path, monkeypatch):
    monkeypatch.setattr(video_report, "FRAMES", 5)
    monkeypatch.setattr(video_report, "ROWS", 10)
    picture, mask = np.zeros((16, 16, 3), np.uint8), np.ones((16, 16), np.uint8)
    film = Film(tmp_path, "a", [mask] * 47, count=47, rate=Fraction(30000, 1001))
    assert sum(1 for _ in film.watch((picture, mask, picture) for _ in range(47))) == 47
    with av.open(str(tmp_path / film.wide[0].path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    assert "one frame in 10" in film.wide[0].caption and "one frame in 5" in film.wide[1].caption
    (tmp_path / "pictures").rename(tmp_path / "before")
    broken = film.watch(iter([(picture, mask, picture)] * 3))
    next(broken)
    broken.close()  # as after an error on the way
    assert list((tmp_path / "pictures").iterdir()) == []


# All together ---------------------------------------------------------------------------------------------------------

def test_perfect_and_imperfect(tmp_path):
    """A copy of the truth has no error anywhere; a darker one has the error that scikit-image finds."""
    write_devil(tmp_path / "truth" / "a", tmp_path / "method" / "a", frames(), frames())
    write_devil(tmp_path / "truth" / "b", tmp_path / "method" / "b", frames(), darker(frames()))
    clips, _ = video_evaluation.open_clips(find_videos(tmp_path / "truth", tmp_path / "method")[0])
    ticks = []
    result, films, problems = video_evaluation.score_clips(
        clips, VideoScores(metrics=FREE), tmp_path / "out", advance=lambda: ticks.append(0))
    assert len(ticks) == 2 * COUNT and list(films) == ["a", "b"] and not problems
    perfect, dark = result["videos"]
    assert (perfect["ssim"], perfect["ssim2"]) == pytest.approx((1, 1))
    assert perfect["psnr"] == perfect["psnr_hole"] == 60
    assert perfect["pcons"] == math.inf  # the pattern moves, and recurs exactly
    assert films["a"].curves["psnr_hole"] == [math.inf] * COUNT
    assert perfect["hole_area"] == pytest.approx(200 / (HEIGHT * WIDTH))
    expected = [peak_signal_noise_ratio(a, np.where(mask[..., None], b, a))
                for a, b, mask in zip(frames(), darker(frames()), holes(), strict=True)]
    assert dark["psnr"] == pytest.approx(np.mean(expected))
    hole = [peak_signal_noise_ratio(a[mask == 1], b[mask == 1])
            for a, b, mask in zip(frames(), darker(frames()), holes(), strict=True)]
    assert dark["psnr_hole"] == pytest.approx(np.mean(hole))
    assert films["b"].curves["psnr_hole"] == pytest.approx(hole)


def test_a_perfect_video_counts(tmp_path, run):
    pictures = frames()
    write_plain(tmp_path / "truth" / "same", tmp_path / "filled" / "same", pictures, pictures)
    write_plain(tmp_path / "truth" / "other", tmp_path / "filled" / "other", pictures, darker(pictures))
    status, _ = run(tmp_path / "truth", tmp_path / "filled", "--metrics", "psnr", "ssim", "--device", "cpu")
    result = json.loads((tmp_path / "filled_scores" / "results.json").read_text())
    other, same = (video["psnr"] for video in result["videos"])
    assert status == 0 and same == 60 and other < 40
    assert result["totals"]["psnr"] == {"mean": (60 + other) / 2, "std": pytest.approx((60 - other) / 2), "count": 2}


def test_command_line(devil, tmp_path, run):
    truth, predictions = devil
    out = tmp_path / "out"
    status, printed = run(truth, predictions, "--metrics", *FREE, "--out", out, "--paper", "3:14_prealigned")
    assert status == 0 and "frames 8/8" in printed.err
    assert f"masks: {100 * holes().mean():.2f} % missing on average\n" in printed.err
    result = results._decoded(json.loads((out / "results.json").read_text()))
    assert (result["run"], result["set"], result["count"], result["frames"]) == ("method", "truth", 2, 8)
    text = "".join(Page(out / "report.html").text)
    for table in score_table(result), video_table(result):
        for cell in (table.title, *(cell for row in table.rows for cell in row)):
            assert cell in text and (cell in printed.out or table.title == "Each video")
    total = result["totals"]["psnr"]
    assert f"{total['mean']:.2f} ± {total['std']:.2f}" in printed.out and "0.9630" in printed.out  # ours, the paper's
    for video in result["videos"]:
        assert f"{video['ssim']:.4f}" in text
    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a", "b"]
    assert [float(row["psnr"]) for row in rows] == [video["psnr"] for video in result["videos"]]


def test_page_is_complete_and_text_is_text(tmp_path, run):
    truth, predictions = tmp_path / "truth", tmp_path / "method"
    for name in "plain", HOSTILE:
        write_devil(truth / name, predictions / name, frames(), darker(frames()))
    status, _ = run(truth, predictions, "--metrics", "psnr_hole")
    assert status == 0
    out = tmp_path / "method_scores"  # beside the predictions, where nothing else was asked for
    page = Page(out / "report.html")
    assert page.text.count(HOSTILE) == 2  # in the table and above the pictures
    assert page.tags.count("video") == 2 and page.tags.count("script") == 0
    files = [unquote(reference) for reference in page.references if not reference.startswith("data:image/")]
    assert len(files) == 4 and len(page.references) > 4
    assert sorted(files) == sorted(path.relative_to(out).as_posix() for path in (out / "pictures").iterdir())
    assert sorted(path.name for path in out.iterdir()) == ["pictures", "report.html", "results.csv", "results.json"]


def test_some_are_left_out(devil, tmp_path, run):
    truth, predictions = devil
    write_devil(truth / "c", tmp_path / "elsewhere", frames(), frames())
    (predictions / "b" / "frame_0002_pred.png").unlink()
    cut = predictions / "b" / "frame_0002_pred.jpg"
    Image.fromarray(frames()[0]).save(cut)
    cut.write_bytes(cut.read_bytes()[:1500])  # the header is intact: it shows only when the frame's turn has come
    words = truth, predictions, "--metrics", "psnr", "--out", tmp_path / "out"
    status, printed = run(*words)
    assert status == 1 and "left out: c: missing among the predictions" in printed.err
    assert "left out: b: " in printed.err and "2 of 3 left out" in printed.err and "frames 8/8" in printed.err
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [video["name"] for video in result["videos"]] == ["a"] and list(result["problems"]) == ["c", "b"]
    assert [path.name[:6] for path in sorted((tmp_path / "out" / "pictures").iterdir())] == ["0000_a"] * 2
    status, printed = run(*words, "--strict")
    assert status == 2 and printed.err == "error: c: missing among the predictions\n"


def test_weights_that_are_missing(devil, tmp_path, run, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("GI_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    metrics, notes = with_weights(VIDEO_METRICS)
    assert set(metrics).isdisjoint(("fid", "lpips", "vfid", "vfid_clips", "pvcs")) and set(FREE) < set(metrics)
    assert len(notes) == 3 and all("checkpoints/metrics/" in note and "\n" not in note for note in notes)
    status, printed = run(*devil, "--metrics", "fid", "psnr")
    assert status == 2 and "no such file" in printed.err and "need no weights" in printed.err
    (tmp_path / "checkpoints" / "metrics").mkdir(parents=True)
    (tmp_path / "checkpoints" / "metrics" / "rgb_imagenet.pt").touch()
    assert {"vfid", "vfid_clips", "pvcs"} < set(with_weights(VIDEO_METRICS)[0])


def test_methods_are_compared_on_the_same_videos(tmp_path, run):
    """A method that leaves out the hard ones would look better."""
    for name in "ab":
        masks = 255 * holes()
        if name == "b":
            masks[1] = 255  # which nothing but frames beside it can fill
        for folder, pictures in ("frames", frames()), ("masks", masks):
            for number, picture in enumerate(pictures):
                write_image(tmp_path / "set" / name / folder / f"{number}.png", picture)
    status, printed = run(tmp_path / "set", tmp_path / "out", "--method", "flow", "--method", "per-frame network=false",
                          "--metrics", "psnr", "--device", "cpu")
    assert status == 1 and printed.err.count("left out: b: ") == 2
    assert "left out: b: per-frame network=false has no result: " in printed.err
    for method in "flow", "per-frame_network_false":
        result = json.loads((tmp_path / "out_scores" / method / "results.json").read_text())
        assert [video["name"] for video in result["videos"]] == ["a"]


def test_a_fill_that_cannot_be_scored_leaves_its_video_out_for_all(tmp_path, run):
    for name in "ab":
        write_plain(tmp_path / "set" / name, tmp_path / "unused", frames(), frames())
    words = (tmp_path / "set", tmp_path / "out", "--method", "flow", "--method", "per-frame network=false", "--metrics",
             "psnr", "--device", "cpu")
    assert run(*words)[0] == 0
    (tmp_path / "out" / "flow" / "b" / "2.png").unlink()
    assert run(*words)[0] == 1
    for method in "flow", "per-frame_network_false":
        result = json.loads((tmp_path / "out_scores" / method / "results.json").read_text())
        assert [video["name"] for video in result["videos"]] == ["a"]


def test_scores_of_methods_stand_under_their_measures():
    tables = {name: Table(["", "composite"], [["PSNR ↑", psnr], ["L1 ↓", l1]])
              for name, psnr, l1 in (("flow", "30.00", "0.0100"), ("per-frame", "20.00", "0.0500"))}
    table = video_evaluation.side_by_side(tables)
    assert table.heading == ["method", "PSNR ↑", "L1 ↓"]
    assert table.rows == [["flow", "30.00", "0.0100"], ["per-frame", "20.00", "0.0500"]]


def test_a_method_that_fills_nothing_takes_nothing_from_the_others():
    a, b, c = (SimpleNamespace(name=name) for name in "abc")
    common = video_evaluation.only_common({"x": ([a, b], {"c": "bad"}), "y": ([b, c], {"a": "worse"}),
                                           "none": ([], dict.fromkeys("abc", "too large"))})
    assert {method: pairs for method, (pairs, _) in common.items()} == {"x": [b], "y": [b], "none": []}
    assert common["x"][1] == {"c": "bad", "a": "y has no result: worse"}
    assert common["none"][1] == dict.fromkeys("abc", "too large")


def test_bad_input_is_one_line(devil, tmp_path, run):
    truth, predictions = devil
    (tmp_path / "empty").mkdir()
    write_film(tmp_path / "a.mkv", frames())
    for words, message in (
        ((tmp_path / "nowhere", predictions), "nowhere: no such file or folder"),
        ((truth, tmp_path / "nowhere"), "nowhere: no such file or folder"),
        ((tmp_path / "a.mkv", tmp_path / "a.mkv"), "expected --masks"),
        ((truth, tmp_path / "a.mkv"), "is a file, expected a folder"),
        ((tmp_path / "empty", predictions), "empty: expected frame_0000_gt.png"),
        ((truth, tmp_path / "empty"), "no video has a counterpart"),
        ((truth / "a", tmp_path / "empty"), "expected frames of a in it"),
        ((tmp_path / "a.mkv", tmp_path / "a.mkv", "--masks", truth / "a"), "a: "),
        ((truth, predictions, "--metrics", "pnsr"), "there is no 'pnsr'"),
        ((truth, predictions, "--device", "tpu9"), "tpu9"),
    ):
        status, printed = run(*words)
        assert status == 2 and printed.err.startswith("error: ") and printed.err.count("\n") == 1, printed.err
        assert message in printed.err
    assert not list(Path(tmp_path).glob("*_scores"))
