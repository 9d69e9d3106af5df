"""scripts/inpaint_video.py on files: parts, resuming, edited frames, and what can be wrong with the input."""
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from omegaconf import OmegaConf

from gi.errors import InputError
from gi.media import io
from gi.media.files import open_video
from gi.video.keyframes.chunk import ChunkFiller
from gi.video.workspace import Workspace
from tests.families import tiny_node
from tests.test_video_pipeline import hole_psnr, scene
from tests.video_helpers import pictures, write_video

ROOT = Path(__file__).resolve().parents[1]
COUNT = 23
OPTIONS = ["--no-network", "--every", "5", "--guides=-8,-3,3,8", "--dilate", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def script():
    return importlib.import_module("gi.commands.inpaint_video")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A folder with `frames` and `masks` as PNG, and both as files."""
    root = tmp_path_factory.mktemp("video")
    frames, masks = map(list, zip(*scene(COUNT), strict=True))
    for number, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        io.write_image(root / "frames" / f"{number:05d}.png", frame)
        io.write_image(root / "masks" / f"{number:05d}.png", 255 * mask)
    write_video(root / "film.mp4", frames, sound="aac", rate=30)
    write_video(root / "holes.mp4", [np.repeat(255 * mask[..., None], 3, axis=2) for mask in masks])
    return root


def run(script, video, out, *options, frames="frames", masks="masks"):
    return script.main([str(video / frames), str(video / masks), str(out), *OPTIONS, *options])


def test_folder_in_folder_out(script, video, tmp_path, capsys):
    assert run(script, video, tmp_path / "out") == 0
    truth, masks = map(list, zip(*scene(COUNT), strict=True))
    result = pictures(tmp_path / "out")
    known = np.stack(masks) == 0
    assert np.array_equal(result[known], np.stack(truth)[known])
    assert hole_psnr(result, truth, masks) > 25
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing else is left
    assert "left" in capsys.readouterr().err  # how long it takes


def test_file_in_file_out_with_its_sound(script, video, tmp_path):
    assert run(script, video, tmp_path / "out.mp4", frames="film.mp4", masks="holes.mp4") == 0
    source, result = (open_video(path) for path in (video / "film.mp4", tmp_path / "out.mp4"))
    assert (result.count, result.rate, result.width, result.height) == (COUNT, 30, source.width, source.height)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.audio[0].codec.canonical_name == "aac"
    truth, masks = map(list, zip(*scene(COUNT), strict=True))
    assert hole_psnr(np.stack(list(result.frames())), truth, masks) > 24


def test_one_still_mask(script, video, tmp_path):
    mask = np.zeros((64, 112), np.uint8)
    mask[20:30, 40:60] = 255
    io.write_image(tmp_path / "mask.png", mask)
    assert script.main([str(video / "frames"), str(tmp_path / "mask.png"), str(tmp_path / "out"), *OPTIONS]) == 0
    result, truth = pictures(tmp_path / "out"), pictures(video / "frames")
    assert np.array_equal(result[:, mask == 0], truth[:, mask == 0]) and not np.array_equal(result, truth)


def test_parts_of_several_machines_join_to_a_single_run(script, video, tmp_path, capsys):
    assert run(script, video, tmp_path / "whole") == 0
    for part in ("2/3", "3/3", "1/3"):
        assert run(script, video, tmp_path / "out", "--chunk", part) == 0
        assert not (tmp_path / "out").exists()
    assert "0 of 4 chunks are still missing" in capsys.readouterr().out
    assert run(script, video, tmp_path / "out") == 0
    assert "4 of 4 chunks are finished already" in capsys.readouterr().err
    assert np.array_equal(pictures(tmp_path / "out"), pictures(tmp_path / "whole"))


def test_an_interrupted_run_goes_on(script, video, tmp_path, monkeypatch, capsys):
    assert run(script, video, tmp_path / "whole") == 0
    computed = []
    original = ChunkFiller.__call__

    def interrupted(self, chunk):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(chunk)
        return original(self, chunk)
    monkeypatch.setattr(ChunkFiller, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(script, video, tmp_path / "out")
    assert not (tmp_path / "out").exists()

    def counted(self, chunk):
        computed.append(chunk)
        return original(self, chunk)
    monkeypatch.setattr(ChunkFiller, "__call__", counted)
    assert run(script, video, tmp_path / "out") == 0
    assert [chunk.first for chunk in computed] == [0, 5, 10, 15]  # none twice
    assert np.array_equal(pictures(tmp_path / "out"), pictures(tmp_path / "whole"))


def chunks(folder):
    return {path.name: sorted(file.name for file in path.glob("*.npz")) for path in folder.glob(".gi-*.chunks")}


def test_finished_work_belongs_to_its_inputs_not_to_names(script, video, tmp_path, capsys, monkeypatch):
    """Not to the name of the result or of the video; what other jobs in the same folder have done is left alone."""
    run(script, video, tmp_path / "clip.mp4", "--chunk", "1/1", frames="film.mp4", masks="holes.mp4")
    before = chunks(tmp_path)
    assert len(before) == 1 and len(*before.values()) == 4
    assert run(script, video, tmp_path / "clip", "--no-prealign", frames="film.mp4", masks="holes.mp4") == 0
    assert "chunks: chunks of other inputs, settings or versions, not used; delete" in capsys.readouterr().err
    run(script, video, tmp_path / "clip", "--no-prealign", "--chunk", "1/2")
    assert before.items() < chunks(tmp_path).items() and len(chunks(tmp_path)) == 2
    monkeypatch.setattr(ChunkFiller, "__call__", None)  # nothing is computed
    shutil.copy(video / "film.mp4", tmp_path / "renamed.mp4")
    assert run(script, tmp_path, tmp_path / "other.mkv", frames="renamed.mp4", masks=video / "holes.mp4") == 0
    assert "4 of 4 chunks are finished already" in capsys.readouterr().err
    assert open_video(tmp_path / "other.mkv").count == COUNT and not before.keys() & chunks(tmp_path).keys()


def test_nobody_deletes_what_another_run_is_using(video, tmp_path):
    """Two results of the same job at the same time: the last one to end removes the parts."""
    from gi.media.masks import open_masks
    from gi.video.job import VideoJob
    from gi.video.per_frame import PerFrame

    def job(name):
        frames = open_video(video / "frames")
        return VideoJob(PerFrame(network=False), frames, open_masks(video / "masks", frames, dilate=0), tmp_path / name)
    first, second, third = job("a"), job("b.mkv"), job("a")
    slow, never_ended = second.run(), third.run()
    while next(slow).stage != "frames written" or next(never_ended).stage != "frames written":
        pass
    for _ in first.run():
        pass
    assert (tmp_path / "a").is_dir() and first.folder == second.folder and not second.missing
    never_ended.close()
    for _ in slow:
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b.mkv"]


def test_a_finished_fit_is_waited_for_and_a_refused_one_leaves_nothing(tmp_path):
    first, second = Workspace(tmp_path / "job", {}), Workspace(tmp_path / "job", {})
    with first.used(), second.used():
        (tmp_path / "job" / "fit").mkdir()
        with ThreadPoolExecutor(1) as pool:
            with first.alone("fit"):
                with pytest.raises(InputError, match="another run is at work"), second.alone("fit"):
                    pass
                waits = pool.submit(lambda: second.alone("fit", wait=True).__enter__())
                time.sleep(0.1)
                assert not waits.done()
            waits.result(timeout=60)
    assert not (tmp_path / "job").exists()


def test_inputs_that_change_during_the_work_are_never_mixed(script, video, tmp_path):
    for name in ("frames", "masks"):
        shutil.copytree(video / name, tmp_path / name)
    real = ChunkFiller.__call__

    def changed(self, chunk):
        shutil.copy(tmp_path / "frames" / "00000.png", tmp_path / "frames" / "00011.png")
        return real(self, chunk)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match="00011.png: was changed during the"):
        patch.setattr(ChunkFiller, "__call__", changed)
        run(script, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not any(chunks(tmp_path).values())
    assert run(script, tmp_path, tmp_path / "out") == 0
    result, truth = pictures(tmp_path / "out"), pictures(tmp_path / "frames")
    known = pictures(tmp_path / "masks", io.read_mask) == 0
    assert np.array_equal(result[known], truth[known])


def test_what_the_end_needs_is_tried_at_the_beginning(script, video, tmp_path, monkeypatch, caplog):
    """Names, encoders, sound, space: all of it before anything is computed."""
    monkeypatch.setattr(ChunkFiller, "__call__", None)
    with pytest.raises(InputError, match="name of the output"):
        run(script, video, tmp_path / f"{'x' * 260}.mp4")
    usage = shutil.disk_usage(tmp_path)
    for out in ("out", "out.mp4"):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5000))
        with pytest.raises(OSError, match=f"{out}: needs more than"):
            run(script, video, tmp_path / out, frames="film.mp4", masks="holes.mp4")
    for free, warned in (10_000, True), (3_000_000, False):  # enough for the first frames, and for all of it
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        with pytest.raises(TypeError):  # computing begins
            run(script, video, tmp_path / "out.mp4")
        assert bool(caplog.records) == warned
        if warned:
            assert "out.mp4: may need about" in caplog.text and "for chunks until it is written" in caplog.text
        caplog.clear()
    monkeypatch.setattr(av.AudioStream, "encode", lambda self, frame: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # the whole track is converted
        run(script, video, tmp_path / "out.webm", frames="film.mp4", masks="holes.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_chunk_is_named(script, video, tmp_path):
    for part in ("1/2", "2/2"):
        run(script, video, tmp_path / "out", "--chunk", part)
    chunk = next(tmp_path.glob(".gi-*.chunks")) / "000005.npz"
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(InputError, match=r"000005.npz: cannot read this finished chunk .* delete the file"):
        run(script, video, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    chunk.unlink()
    assert run(script, video, tmp_path / "out") == 0


def test_edited_keyframe(script, video, tmp_path):
    frame = io.read_image(video / "frames" / "00010.png").copy()
    mask = io.read_mask(video / "masks" / "00010.png") > 0
    frame[mask] = (255, 0, 0)
    io.write_image(tmp_path / "edited.png", frame)
    assert run(script, video, tmp_path / "out", "--keyframe", f"10={tmp_path / 'edited.png'}") == 0
    result = pictures(tmp_path / "out")
    assert np.array_equal(result[10], frame)
    holes = [io.read_mask(video / "masks" / f"{number:05d}.png") > 0 for number in (9, 11)]
    for picture, hole in zip(result[[9, 11]], holes, strict=True):
        assert (np.abs(picture[hole].astype(int) - (255, 0, 0)).sum(axis=1) < 60).any()


def test_a_network_of_a_checkpoint(script, video, tmp_path):
    import torch

    from gi.config import instantiate
    node = tiny_node("ours_no_ffc")
    OmegaConf.save({"model": {"params": {"generator": node}}}, tmp_path / "tiny.yaml")
    state = {f"generator.{name}": value for name, value in instantiate(node).state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "tiny.ckpt")
    options = [option for option in OPTIONS if option != "--no-network"]
    status = script.main([str(video / "frames"), str(video / "masks"), str(tmp_path / "out"), *options, "--flow", "dis",
                          "--checkpoint", str(tmp_path / "tiny.ckpt"), "--config", str(tmp_path / "tiny.yaml")])
    assert status == 0 and len(pictures(tmp_path / "out")) == COUNT


@pytest.mark.slow
def test_killed_while_it_works_leaves_nothing_half_done(video, tmp_path):
    """SIGKILL at some moment of the work: no result under the final name, and the same command completes it."""
    command = [sys.executable, str(ROOT / "scripts" / "inpaint_video.py"), str(video / "frames"), str(video / "masks"),
               str(tmp_path / "out.mp4"), *OPTIONS]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".gi-*.chunks/[0-9]*.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out.mp4").exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "finished already" in done.stderr
    assert open_video(tmp_path / "out.mp4").count == COUNT
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit on the size of files")
def test_a_disk_that_fills_up(video, tmp_path):
    """A limit on the size of files stands for it: one line, exit status 1, nothing under the final name."""
    command = [sys.executable, str(ROOT / "scripts" / "inpaint_video.py"), str(video / "frames"), str(video / "masks"),
               str(tmp_path / "out.mp4"), *OPTIONS]

    def limit():
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("options, message", [
    (["--keyframe", "40=x.png"], "--keyframe 40=x.png: .* has frames 0 to 22"),
    (["--keyframe", "x.png"], "expected N=FILE"),
    (["--keyframe", "4=~/x.png"], re.escape(str(Path("~/x.png").expanduser()))),
    (["--guides", "5"], "expected 6, 14, 0 or a list of offsets, got 5"),
    (["--guides", "a"], "--guides a: expected"),
    (["--resize", "10"], "--resize 10: expected"),
    (["--resize", "64x64", "--max-side", "64"], "expected one of them"),
    (["--chunk", "3/2"], "expected i/n"),
    (["--every", "0"], "every"),
    (["--quality", "99"], "99"),
    (["--method", "keyframes"], "--method and --no-network: expected one of them"),
    (["evry=4"], "evry: .* did you mean every"),
    (["--checkpoint", "x.ckpt"], "checkpoint: the method flow has no such parameter"),
])
def test_bad_options_are_named(script, video, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(script, video, tmp_path / "out.mp4", *options)
    assert list(tmp_path.iterdir()) == []


def test_bad_inputs_are_named(script, video, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        script.main([str(tmp_path / "empty"), str(video / "masks"), str(tmp_path / "out"), *OPTIONS])
    with pytest.raises(InputError, match="no such"):
        script.main([str(tmp_path / "none.mp4"), str(video / "masks"), str(tmp_path / "out"), *OPTIONS])
    io.write_image(tmp_path / "mask.png", np.zeros((10, 10), np.uint8))
    with pytest.raises(InputError, match="10x10 pixels, expected 112x64"):
        script.main([str(video / "frames"), str(tmp_path / "mask.png"), str(tmp_path / "out"), *OPTIONS])
    with pytest.raises(InputError, match="overwrite the input or be inside it"):
        run(script, video, video / "frames")


def test_the_small_network_of_the_repository_is_the_default(script, video, tmp_path):
    """Without a checkpoint; few frames of a hole that nothing else shows."""
    for name in ("frames", "masks"):
        (tmp_path / name).mkdir()
        for path in sorted((video / name).iterdir())[:3]:
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    options = [option for option in OPTIONS if option != "--no-network"]
    assert script.main([str(tmp_path / "frames"), str(tmp_path / "masks"), str(tmp_path / "out"), *options]) == 0
    assert len(pictures(tmp_path / "out")) == 3


def test_progress_and_preview_for_programs(script, video, tmp_path, capsys):
    out, preview = tmp_path / "out.mp4", tmp_path / "preview"
    run(script, video, out, "--progress", "json", "--preview", str(preview), frames="film.mp4")
    said = capsys.readouterr()
    *lines, last = map(json.loads, said.out.splitlines())
    assert last == {"result": str(out), "frames": COUNT} and "frames filled" in said.err
    for what in "frames filled", "frames written":
        steps = [line for line in lines if line["what"] == what]
        assert steps[0] == {"what": what, "done": 0, "total": COUNT, "seconds_left": None}
        assert steps[-1] == {"what": what, "done": COUNT, "total": COUNT, "seconds_left": 0.0}
    assert [path.name for path in sorted(preview.glob("*.jpg"))] == [f"{number:06d}.jpg" for number in range(COUNT)]
    for number, frame in enumerate(open_video(out).frames()):
        assert np.abs(io.read_image(preview / f"{number:06d}.jpg").astype(int) - frame).mean() < 4
    run(script, video, out, "--preview", str(preview), frames="film.mp4")  # its own may be written over
    (preview / ".gi-preview").unlink()
    with pytest.raises(InputError, match="preview: the folder holds 000000.jpg, expected an empty folder or a new"):
        run(script, video, out, "--preview", str(preview), frames="film.mp4")


def test_programs_are_told_of_errors(script, video, tmp_path, capsys):
    for options in ["--guides=a"], ["--preview", str(video / "film.mp4")], ["--preview", str(video / "frames")]:
        with pytest.raises(InputError) as error:
            run(script, video, tmp_path / "out", *options, "--progress=json")
        assert json.loads(capsys.readouterr().out) == {"error": str(error.value)}
