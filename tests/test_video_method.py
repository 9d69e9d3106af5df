"""Methods of filling videos: three toys, known to nothing but this file, go through all that takes methods."""
import ast
import graphlib
import importlib
import shutil
import sys
import zipfile

import numpy as np
import pytest

from gi.config import schema
from gi.errors import InputError
from gi.flow.aligned import Aligned
from gi.flow.estimate import DIS
from gi.media import io
from gi.metrics.video_folder import find_videos
from gi.video import VideoInpainter, method
from gi.video.evaluation import fill_video
from gi.video.identity import code_checksum, network_checksum, package_checksum
from gi.video.method import METHODS, Entry, build_method
from gi.video.per_frame import PerFrame
from tests.test_video_pipeline import build, hole_psnr, scene
from tests.toy_methods import Grey, Mean, Neighbours
from tests.video_helpers import pictures, video_job, write_folders
from tools.video_study import study

COUNT = 13


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A folder with `frames` and `masks`."""
    return write_folders(tmp_path_factory.mktemp("video"), scene(COUNT, 32, 48))


@pytest.fixture
def script():
    return lambda name: importlib.import_module(f"gi.commands.{name}")


@pytest.fixture
def grey(monkeypatch):
    """The one line of a new method."""
    monkeypatch.setitem(METHODS, "grey", Entry("tests.toy_methods.Grey", "one grey for all holes"))


def contents(video):
    return pictures(video / "frames"), pictures(video / "masks", io.read_mask)


# Jobs and the command line --------------------------------------------------------------------------------------------

def test_command_line_in_shares_and_in_one_go(video, tmp_path, script, grey, capsys):
    main = script("inpaint_video").main
    words = [str(video / "frames"), str(video / "masks")]
    options = ["--method", "grey", "level=40", "--dilate", "0"]
    for part in ("2/2", "1/2"):
        assert main([*words, str(tmp_path / "out"), *options, "--chunk", part]) == 0
    assert "0 of 3 chunks are still missing" in capsys.readouterr().out
    assert main([*words, str(tmp_path / "out"), *options]) == 0
    assert "3 of 3 chunks are finished already" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "whole"), *options]) == 0
    frames, masks = contents(video)
    expected = np.where(masks[..., None] > 0, 40, frames)
    for name in ("out", "whole"):
        assert np.array_equal(pictures(tmp_path / name), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_dotted_path_and_help(video, tmp_path, script, capsys):
    main = script("inpaint_video").main
    words = [str(video / "frames"), str(video / "masks"), str(tmp_path / "out"), "--method"]
    assert main([*words, "tests.toy_methods.Grey"]) == 0
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"{name:<10} {entry.description}" in printed for name, entry in METHODS.items())


def test_interrupted_in_the_middle(video, tmp_path, monkeypatch):
    toy, seen, fill = Grey(), [], Grey.fill

    def counted(self, frames, masks, *, edited, part):
        for number, picture in enumerate(fill(self, frames, masks, edited=edited, part=part), part.first):
            if number == stop_at:
                raise KeyboardInterrupt
            seen.append(number)
            yield picture
    monkeypatch.setattr(Grey, "fill", counted)
    stop_at = 7
    with pytest.raises(KeyboardInterrupt):
        list(video_job(toy, video, tmp_path / "out").run())
    work = video_job(toy, video, tmp_path / "out")
    assert not work.out.exists() and [part.first for part in work.missing] == [5, 10]
    assert [path.name for path in work.folder.glob("*.npz")] == ["000000.npz"]
    stop_at = None
    steps = list(work.run())
    assert seen == [*range(7), *range(5, COUNT)]
    assert [(step.stage, step.done, step.total) for step in steps if step.done in (0, step.total)] == [
        ("frames filled", 0, 8), ("frames filled", 8, 8), ("frames written", 0, COUNT),
        ("frames written", COUNT, COUNT)]
    assert (pictures(tmp_path / "out")[contents(video)[1] > 0] == 128).all()


def test_parts_look_around_but_never_into_holes(video, tmp_path):
    for numbers in ((1, 3), (3, 3), (2, 3)):
        work = video_job(Neighbours(), video, tmp_path / "out")
        list(work.fill(work.share(*numbers)))
    list(video_job(Neighbours(), video, tmp_path / "out").run())
    frames, masks = contents(video)
    visible = np.where(masks[..., None] > 0, np.uint8(0), frames)
    expected = np.stack(list(Neighbours()(visible, masks)))
    assert np.array_equal(pictures(tmp_path / "out")[masks > 0], expected[masks > 0])
    assert np.array_equal(pictures(tmp_path / "out")[masks == 0], frames[masks == 0])


@pytest.mark.parametrize("options", [{"max_side": 40}, {"resize": (64, 36)}])
def test_fills_of_another_size_are_kept_exactly(video, tmp_path, options):
    frames, masks = contents(video)
    inpainter = build(**options)
    list(video_job(inpainter, video, tmp_path / "out").run())
    assert np.array_equal(pictures(tmp_path / "out"), np.stack(list(inpainter(frames, masks))))


def test_edited_frames_are_the_users(video, tmp_path):
    edited = {4: np.full((32, 48, 3), 7, np.uint8)}
    list(video_job(Grey(), video, tmp_path / "out", edited=edited).run())
    assert (pictures(tmp_path / "out")[4] == 7).all()
    assert np.array_equal(list(Grey()(*contents(video), edited=edited)), pictures(tmp_path / "out"))


class Faulty(Grey):
    def fill(self, frames, masks, *, edited, part=None):
        yield from [np.zeros((4, 4, 3), np.uint8)] * 2 + [self.level]

    def settings(self):
        return {}


@pytest.mark.parametrize("answer, message", [
    (None, "frame 2: Faulty gave NoneType, expected uint8"),
    (np.zeros((4, 4)), r"frame 2: Faulty gave float64 \(4, 4\), expected uint8"),
])
def test_what_a_method_gives_is_checked(video, tmp_path, answer, message):
    with pytest.raises(InputError, match=message):
        list(video_job(Faulty(level=answer), video, tmp_path / "out").fill([method.Part(0, 3, 0, COUNT, COUNT)]))


# Methods that are fitted to the video ---------------------------------------------------------------------------------

def test_fit_goes_on_where_it_was_interrupted(video, tmp_path):
    steps = video_job(Mean(), video, tmp_path / "out").run()
    for step in steps:
        assert step.stage == "fitting"
        if step.done == 3:
            break
    steps.close()
    with pytest.raises(InputError, match="chunk 2/2: the method is fitted to the video by chunk 1/2"):
        video_job(Mean(), video, tmp_path / "out").share(2, 2)
    steps = list(video_job(Mean(), video, tmp_path / "out").run())
    assert [step.done for step in steps if step.stage == "fitting"] == [3, 4, 5]
    frames, masks = contents(video)
    mean = round(np.mean([frame[mask == 0].mean() for frame, mask in zip(frames, masks, strict=True)]))
    assert (pictures(tmp_path / "out")[masks > 0] == mean).all()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_finished_fit_serves_other_machines(video, tmp_path):
    first = video_job(Mean(), video, tmp_path / "out")
    list(first.fit())
    other = video_job(Mean(), video, tmp_path / "out")
    assert other.share(1, 2) == other.parts and other.share(2, 2) == []
    assert [step.done for step in other.fit()] == [5] and other.method.level == first.method.level


# Names and options ----------------------------------------------------------------------------------------------------

def test_methods_by_name_and_options(grey):
    assert build_method("grey level=7").level == 7
    assert build_method("grey", {"level": 7}, offered={"level": 1, "device": "cpu"}).level == 7
    assert build_method("grey", offered={"level": 1, "device": "cpu"}).level == 1
    flow = build_method("flow every=7 guides=[-8,8] prealign=false", offered={"device": "cpu", "checkpoint": "x"})
    assert isinstance(flow, VideoInpainter) and (flow.every, flow.offsets, flow.prealign) == (7, (-8, 8), False)
    assert flow.generator is None


@pytest.mark.parametrize("text, message", [
    ("gray", "method 'gray': no such method; did you mean grey?"),
    ("grey levle=3", "levle: .* did you mean level?"),
    ("grey level=light", "level: found 'light'"),
    ("grey 3", "3: expected an option of the method, key=value"),
    ("flow every=0", "method flow: every: expected at least 1"),
    ("flow generator=null", "generator"),
    ("tests.toy_methods.Black", "has no Black"),
])
def test_bad_names_and_options(grey, text, message):
    with pytest.raises(InputError, match=message):
        build_method(text)


def test_only_methods_are_methods(monkeypatch):
    monkeypatch.setitem(METHODS, "date", Entry("datetime.timedelta", ""))
    with pytest.raises(InputError, match="method date: is a timedelta, expected a gi.video.method.VideoMethod"):
        build_method("date")


def test_options_of_a_classmethod_are_its_classs():
    known, open_ended = schema.parameters(VideoInpainter.from_checkpoint)
    assert {"checkpoint", "flow", "every", "guides", "tolerance"} <= known.keys() and not open_ended
    assert "generator" not in known and "guidance" not in known


# Versions -------------------------------------------------------------------------------------------------------------

def write_package(folder, ends="\n", number=1):
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    for path in ("__init__.py", "deep/__init__.py", "deep/maths.py"):
        (folder / path).write_bytes(f"# {path}{ends}value = {number}{ends}".encode())


def test_package_checksum(tmp_path, monkeypatch):
    """Of a folder with either line ends and of a zip alike; another one when a file changes or moves."""
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {}
    for name, options in (("plain", {}), ("windows", {"ends": "\r\n"}), ("changed", {"number": 2})):
        write_package(tmp_path / f"{name}_package", **options)
        found[name] = package_checksum(f"{name}_package")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as file:
        for path in (tmp_path / "plain_package").rglob("*.py"):
            file.write(path, "zipped_package/" + path.relative_to(tmp_path / "plain_package").as_posix())
    monkeypatch.syspath_prepend(str(tmp_path / "all.zip"))
    assert found["plain"] == found["windows"] == package_checksum("zipped_package") != found["changed"]
    (tmp_path / "plain_package" / "deep" / "maths.py").rename(tmp_path / "plain_package" / "maths.py")
    assert package_checksum("plain_package") != found["plain"]


def test_another_version_of_the_code_is_another_job(video, tmp_path, monkeypatch):
    before = video_job(Grey(), video, tmp_path / "out")
    assert video_job(Grey(), video, tmp_path / "out").folder == before.folder
    assert video_job(Grey(level=1), video, tmp_path / "out").folder != before.folder
    with monkeypatch.context() as patch:
        patch.setattr("gi.video.identity.package_checksum", lambda name: "changed")
        assert video_job(Grey(), video, tmp_path / "out").folder != before.folder
    with monkeypatch.context() as patch:
        patch.setattr("cv2.__version__", "9.9")
        assert video_job(Grey(), video, tmp_path / "out").folder != before.folder


def test_a_methods_own_module_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for number in (1, 2):
        (tmp_path / "my_method.py").write_text(f"from tests.toy_methods import Grey\n\n\nclass Mine(Grey):\n"
                                               f"    number = {number}\n")
        importlib.invalidate_caches()
        sys.modules.pop("my_method", None)
        found.append(code_checksum(importlib.import_module("my_method").Mine()))
    sys.modules.pop("my_method")
    assert found[0] != found[1]


# Study and evaluation -------------------------------------------------------------------------------------------------

def test_study_has_a_row_for_every_method(grey, tmp_path):
    methods = study.methods(offered={"device": "cpu"})
    assert list(methods)[-1] == "grey" and len(methods) == len(study.STEPS) + 1
    frames, masks = map(list, zip(*scene(6), strict=True))
    case = study.Case("case", frames, masks, True)
    for toy in (methods["grey"], Mean()):
        row, result = study.measure(case, toy)
        assert row["psnr_hole"] == pytest.approx(hole_psnr(np.stack(result), frames, masks), abs=1e-3)
        hole = np.stack(result)[np.stack(masks) > 0]
        assert (hole == toy.level).all()
    assert list(study.methods(["grey level=3"])) == ["grey level=3"]


def test_evaluation_fills_first(video, tmp_path, script, grey, monkeypatch, capsys):
    for name in ("a", "b"):
        shutil.copytree(video, tmp_path / "truth" / name)
    words = ["evaluate_video.py", str(tmp_path / "truth"), str(tmp_path / "made"), "--metrics", "psnr_hole",
             "--method", "grey level=9", "--method", "per-frame network=false", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", words)
    main = script("evaluate_video").main
    assert main() == 0
    printed = capsys.readouterr()
    assert "grey_level_9, a: frames filled" in printed.err
    rows = [line for line in printed.out.splitlines() if line.strip().startswith(("grey", "per-frame"))][-2:]
    frames, masks = contents(video)
    for row, toy in zip(rows, ("grey level=9", "per-frame network=false"), strict=True):
        result = np.stack(list(build_method(toy)(frames, masks)))
        expected = np.mean([-10 * np.log10((((a[m > 0] - b[m > 0].astype(float)) / 255) ** 2).mean())
                            for a, b, m in zip(result, frames, masks, strict=True)])
        assert f"{expected:.2f}" in row
    assert sorted(path.name for path in (tmp_path / "made_scores").iterdir()) == [
        "grey_level_9", "per-frame_network_false"]
    assert main() == 0
    assert "frames filled" not in capsys.readouterr().err  # all of it was there
    for name in ("a", "b"):
        shutil.rmtree(tmp_path / "made" / "grey_level_9" / name)
        io.write_image(next((tmp_path / "truth" / name / "frames").iterdir()), frames[0][:-1])
    with pytest.raises(InputError, match="^a: .*the image has"):
        main()


def test_evaluation_of_a_benchmark_with_black_holes(video, tmp_path):
    frames, masks = contents(video)
    for i, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        io.write_image(tmp_path / "a" / f"frame_{i:04d}_gt.png", frame)
        io.write_image(tmp_path / "a" / f"frame_{i:04d}_mask.png", 255 * (1 - mask))
    (pair,), _ = find_videos(tmp_path / "a", None)
    list(fill_video(pair, Neighbours(), tmp_path / "out" / "a"))
    visible = np.where(masks[..., None] > 0, np.uint8(0), frames)
    assert np.array_equal(pictures(tmp_path / "out" / "a")[masks > 0],
                          np.stack(list(Neighbours()(visible, masks)))[masks > 0])


# Imports --------------------------------------------------------------------------------------------------------------

def test_no_module_imports_itself_by_a_circle(root):
    """Through any others, also where imports are put into functions."""
    modules = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
               for path in (root / "gi").rglob("*.py")}
    imports = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = (f"{node.module}.{alias.name}" for alias in node.names)
                imports[name] |= {other if other in modules else node.module for other in names}
    order = list(graphlib.TopologicalSorter(imports).static_order())  # CycleError names the circle
    assert order.index("gi.errors") < order.index("gi.video.method") < order.index("gi.video.job")


def test_networks_are_told_apart_by_the_settings_of_their_parts():
    few, many, same = (Aligned(estimator=DIS(), keypoints=number) for number in (200, 3000, 200))
    assert network_checksum(few) == network_checksum(same) != network_checksum(many)
    few.scales, same.scales = (1, 2), (1, 3)
    assert network_checksum(few) != network_checksum(same)


def test_what_is_typed_is_trusted_and_nothing_else(video, tmp_path, script, monkeypatch):
    """A method or metric on a command line is the user's own word; one in a configuration is not."""
    (tmp_path / "typed_method.py").write_text(
        "from tests.toy_methods import Grey\n\n\nclass Own(Grey):\n    pass\n\n\nclass Other(Grey):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="typed_method.Own is not allowed"):
        build_method("typed_method.Own")
    words = [str(video / "frames"), str(video / "masks"), str(tmp_path / "out"), "--method", "typed_method.Own level=3"]
    assert script("inpaint_video").main(words) == 0


def test_without_a_network_a_frame_that_shows_nothing_is_refused():
    """Rather than made grey; as a frame edited by hand, it is none that has to be filled."""
    frames, masks = [np.full((16, 24, 3), 90, np.uint8)] * 3, [np.zeros((16, 24), np.uint8)] * 3
    masks[1] = np.ones_like(masks[1])
    method = PerFrame(network=False, device="cpu")
    with pytest.raises(InputError, match="frame 1: everything is missing"):
        list(method(iter(frames), iter(masks)))
    assert len(list(method(iter(frames), iter(masks), edited={1: frames[1]}))) == 3
