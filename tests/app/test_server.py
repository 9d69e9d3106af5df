"""What the page is told, what it asks to be done, and how the command starts and ends."""
import io
import itertools
import json
import shlex
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gi.__main__ import main
from gi.app import example, projects
from gi.app.methods import METHODS, PROPAGATE
from gi.errors import InputError
from gi.media.files import open_video
from gi.video.follow_methods import METHODS as FOLLOWERS
from tests.app.conftest import answer, fake_job, png, serving, testclient, wait_for
from tests.video_helpers import moving_pictures, write_video


@pytest.fixture
def still(server, monkeypatch):
    """The queue stands still: jobs are looked at, not run. A project with a video and masks."""
    monkeypatch.setattr(server.queue, "_look", lambda: None)
    monkeypatch.setattr(type(server.tasks), "measure", lambda *words: None)
    write_video(server.folder.path / "clip.mp4", moving_pictures(30), rate=25)
    project = server.ok("POST", "/api/projects", json={"path": "clip.mp4"})
    mark = png(np.where(np.arange(64) < 9, 255, 0) * np.ones((48, 1)))
    server.ok("PUT", f"/api/projects/{project['id']}/marks/4", content=mark)
    return project["id"]


def words_of(server, told):
    return server.queue.get(told["id"]).words


def following(words, option):
    return [value for name, value in zip(words, words[1:], strict=False) if name == option]


def test_the_state_tells_what_can_be_done_here(server):
    state = server.ok("GET", "/api/state")
    methods = {method["name"]: method for method in state["methods"]}
    assert set(methods) == set(METHODS) and methods["flow"]["available"] and methods["keyframes"]["available"]
    for method in [*state["methods"], state["clicks"]]:
        assert method["available"] == (method["why_not"] is None)
    assert not state["clicks"]["available"]
    assert {way["name"] for way in state["propagate"]} == set(PROPAGATE) <= set(FOLLOWERS)
    assert state["limits"]["upload_bytes"] == server.uploads.limit and state["password"] is False


def test_propagating_takes_all_marks(server, still):
    call = f"/api/projects/{still}"
    server.ok("PUT", f"{call}/marks/20", content=png(np.zeros((48, 64))))
    told = server.ok("POST", f"{call}/propagate", json={"method": "both", "options": {"minutes": 3}})
    words = words_of(server, told)
    assert words[:2] == ["propagate-masks", str(server.folder.path / "clip.mp4")]
    folder = server.queue.root / told["id"]
    assert words[2:4] == [str(folder / "marks" / "000004.png"), str(folder / "masks")]
    assert following(words, "--frame") == ["4"] and "minutes=3" in words
    assert following(words, "--mask") == [f"20={folder / 'marks' / '000020.png'}"]
    assert shlex.split(told["command"]) == ["gi", *words[:-2]] and words[-2:] == ["--progress", "json"]
    assert server.ok("GET", call)["jobs"] == [told["id"]]


def test_propagated_masks_become_the_project_s(server, still):
    """What was painted since the job began shows as stale; masks are taken in the order of their numbers."""
    call = f"/api/projects/{still}"
    told = server.ok("POST", f"{call}/propagate", json={"method": "flow"})
    job = server.queue.get(told["id"])
    (server.queue.folder(job) / "masks").mkdir()
    for number in range(30):
        (server.queue.folder(job) / "masks" / f"{number}.png").write_bytes(png(np.full((48, 64), 255 * (number == 9))))
    server.tasks.finish(job)
    assert server.ok("GET", call)["masks"] == {"source": "propagated", "stale": False}
    shown = [server.client.get(f"{call}/masks/{number}.png").content for number in range(30)]
    assert len({*shown}) == 3 and shown.index(shown[9]) == 9 and shown.count(shown[9]) == shown.count(shown[4]) == 1
    assert shown[4] == server.projects.get(still).mark(4).read_bytes()
    server.ok("PUT", f"{call}/marks/4", content=png(np.zeros((48, 64))))
    server.tasks.finish(job)
    assert server.ok("GET", call)["masks"]["stale"]
    (server.queue.folder(job) / "masks" / "9.png").unlink()
    with pytest.raises(Exception, match="29 masks, expected 30"):
        server.tasks.finish(job)


def test_a_run_keeps_what_it_was_given(server, still):
    """Masks and keyframes are those of the moment, whatever is painted while the job waits, runs and is resumed."""
    call = f"/api/projects/{still}"
    (server.folder.path / "mask.png").write_bytes(png(np.full((48, 64), 255) * (np.arange(64) < 9)))
    server.ok("PUT", f"{call}/masks", json={"path": "mask.png"})
    for number in 20, 3:
        server.ok("PUT", f"{call}/keyframes/{number}", content=png(moving_pictures(30)[number]))
    told = server.ok("POST", f"{call}/runs", json={"method": "keyframes", "options": {"max_side": 96, "dilate": None}})
    words, folder = words_of(server, told), server.queue.root / told["id"]
    assert following(words, "--keyframe") == [f"3={folder}/keyframes/000003.png", f"20={folder}/keyframes/000020.png"]
    assert following(words, "--max-side") == ["96"] and "--dilate" not in words and following(words, "--method") == [
        "keyframes"]
    assert all(Path(word).is_absolute() for word in words[1:4]) and words[3] == str(folder / "filled.mp4")
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert len(before) == 32
    server.ok("PUT", f"{call}/marks/3", content=png(np.full((48, 64), 255)))
    server.ok("PUT", f"{call}/keyframes/3", content=png(np.zeros((48, 64, 3))))
    server.ok("DELETE", f"{call}/masks")
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    assert server.client.post(f"{call}/runs", json={"method": "flow"}).status_code == 409


def test_a_run_gets_masks_of_one_state(server, still, monkeypatch, tmp_path):
    """Also one that is asked for while they are replaced."""
    project, begun, link = server.projects.get(still), threading.Event(), projects.link
    for value in 0, 255:
        for number in range(30):
            (tmp_path / f"{value}").mkdir(exist_ok=True)
            (tmp_path / f"{value}" / f"{number}.png").write_bytes(png(np.full((48, 64), value)))

    def slow(*places):
        link(*places)
        begun.set()
        time.sleep(0.005)

    server.projects.delete_mark(project, 4)
    old, new = (projects.pictures_in(tmp_path / name) for name in ("0", "255"))
    server.projects.put_masks(project, old, "uploaded")
    monkeypatch.setattr(projects, "link", slow)
    replacing = threading.Thread(target=server.projects.put_masks, args=(project, new, "uploaded"))
    replacing.start()
    begun.wait()
    job = server.tasks.run(project, "flow", {}, [])
    replacing.join()
    given = [np.asarray(Image.open(file)).max() for file in (server.queue.folder(job) / "masks").iterdir()]
    assert len(given) == 30 and len(set(given)) == 1


def test_uploads_go_with_what_needs_them(arguments, monkeypatch):
    """Masks of which the project has its own, views of a photo; at the next start whatever nothing names."""
    with serving(arguments) as server:
        monkeypatch.setattr(server.queue, "_look", lambda: None)

        def send(name, pixels):
            return server.ok("POST", f"/api/uploads?name={name}.png", content=png(pixels))["upload"]

        frame, mask = moving_pictures(1)[0], np.full((48, 64), 255)
        photo, view, unused = send("photo", frame), send("view", frame), send("unused", frame)
        call = f"/api/projects/{server.ok('POST', '/api/projects', json={'upload': photo})['id']}"
        write_video(server.folder.path / "clip.mp4", moving_pictures(3))
        video = server.ok("POST", "/api/projects", json={"path": "clip.mp4"})["id"]
        for pixels, status in (mask, 200), (mask[:9], 400):  # taken, refused
            upload = send("mask", pixels)
            assert server.client.put(f"/api/projects/{video}/masks", json={"upload": upload}).status_code == status
            assert not (server.uploads.root / upload).exists()
        server.ok("PUT", f"{call}/marks/0", content=png(mask))
        jobs = [server.ok("POST", f"{call}/runs", json={"method": "photo", "others": [{"upload": view}]})["id"]
                for _ in range(2)]
        assert server.client.delete(f"/api/uploads/{view}").status_code == 409
        server.ok("DELETE", f"/api/jobs/{jobs[0]}")
        assert sorted(server.uploads.all()) == sorted([photo, view, unused])
        (server.uploads.root / photo / ".1234.part").touch()
    with serving(arguments) as server:
        assert sorted(server.uploads.all()) == sorted([photo, view])
        assert [file.name for file in (server.uploads.root / photo).iterdir()] == ["photo.png"]
        wait_for(lambda: not server.queue.get(jobs[1]).active and server.queue.get(jobs[1]).state != "waiting")
        server.ok("DELETE", call)
        assert not server.uploads.all()


def test_masks_of_numbered_frames_have_their_names(server, still):
    """Or a folder of frames with gaps in its numbers would not take masks that are counted through."""
    folder = server.folder.path / "frames"
    folder.mkdir()
    for number in 3, 7, 10:
        (folder / f"f{number}.png").write_bytes(png(moving_pictures(11)[number]))
    project = server.ok("POST", "/api/projects", json={"path": "frames", "fps": "12"})
    (server.folder.path / "mask.png").write_bytes(png(np.full((48, 64), 255) * (np.arange(64) < 9)))
    server.ok("PUT", f"/api/projects/{project['id']}/masks", json={"path": "mask.png"})
    told = server.ok("POST", f"/api/projects/{project['id']}/runs", json={"method": "flow"})
    names = sorted(path.name for path in (server.queue.root / told["id"] / "masks").iterdir())
    assert names == ["f10.png", "f3.png", "f7.png"] and following(words_of(server, told), "--fps") == ["12"]


def test_a_keyframe_is_filled_with_frames_around_it_as_views(server, still):
    call = f"/api/projects/{still}"
    assert server.client.post(f"{call}/keyframes/15/fill").status_code == 409  # no mask there
    (server.folder.path / "mask.png").write_bytes(png(np.full((48, 64), 255) * (np.arange(64) < 9)))
    server.ok("PUT", f"{call}/masks", json={"path": "mask.png"})
    told = server.ok("POST", f"{call}/keyframes/15/fill")
    words, folder = words_of(server, told), server.queue.root / told["id"]
    assert words[0] == "inpaint" and following(words, "--keyframe") == [f"{folder}/view_{n:06d}.png" for n in (5, 25)]
    assert following(words, "--keyframe-mask") == [f"{folder}/view_{n:06d}_mask.png" for n in (5, 25)]
    exact = list(open_video(server.folder.path / "clip.mp4").frames())
    from gi.media.io import read_image, read_mask
    assert np.array_equal(read_image(folder / "frame.png"), exact[15])
    mask = read_mask(folder / "frame_mask.png")
    assert mask[:, :13].all() and not mask[:, 13:].any()  # grown by 4
    (folder / "filled.png").write_bytes(png(exact[3]))
    server.tasks.finish(server.queue.get(told["id"]))
    assert server.ok("GET", call)["keyframes"] == [{"n": 15, "source": "filled"}]


def test_a_photo_and_its_other_views(server, still):
    frames = moving_pictures(3, 40, 56)
    for name, frame in zip("abc", frames, strict=True):
        (server.folder.path / f"{name}.jpg").write_bytes(png(frame))  # whatever its name says
    project = server.ok("POST", "/api/projects", json={"path": "a.jpg"})
    call = f"/api/projects/{project['id']}"
    assert (project["kind"], project["count"]) == ("photo", 1)
    upload = server.ok("POST", "/api/uploads?name=c.png", content=png(frames[2]))["upload"]
    others = [{"path": "b.jpg"}, {"upload": upload}]
    assert server.client.post(f"{call}/runs", json={"method": "photo", "others": others}).status_code == 409
    server.ok("PUT", f"{call}/marks/0", content=png(np.full((40, 56), 255) * (np.arange(56) < 9)))
    told = server.ok("POST", f"{call}/runs", json={"method": "photo", "others": others})
    views = following(words_of(server, told), "--keyframe")
    assert [Path(view).name for view in views] == ["b.jpg", "c.png"]
    assert server.client.post(f"{call}/runs", json={"method": "flow"}).status_code == 400


def test_estimates_come_from_what_was_measured_here(server, still):
    call = f"/api/projects/{still}/estimates"
    before = server.ok("GET", call)
    assert before["flow"]["seconds"] is None and "not measured" in before["flow"]["how"]
    found = server.ok("GET", f"{call}?method=internal&minutes=3")
    assert found["internal"]["seconds"] == 180 and found["refine"]["seconds"] == 600  # options are of one method
    assert server.ok("GET", f"{call}?method=internal&minutes=nan")["internal"] == before["internal"]
    for work in 10.0, 12.0, 40.0:  # 2 megapixels each
        server.methods.keep_time("flow", start=3.0, work=work, amount=2.0)
    seconds = 3 + 6 * 30 * 48 * 64 / 1e6
    found = server.ok("GET", call)["flow"]
    assert abs(found["seconds"] - seconds) <= 1 and "3 earlier jobs" in found["how"]


def test_runs_are_shown_as_they_are_on_disk(arguments):
    from torch.utils.tensorboard import SummaryWriter

    from gi.app.server import create_app
    run = arguments.runs / "logs" / "2026_demo"
    for folder in "metrics", "images/train":
        (run / folder).mkdir(parents=True)
    with SummaryWriter(run / "tensorboard") as writer:
        for step in range(3000):
            writer.add_scalar("train/l1", float("nan") if step == 5 else 1 / (step + 1), step)
    (run / "images" / "train" / "step_0000010.png").write_bytes(png(np.zeros((4, 4))))
    (run / "metrics" / "val.json").write_text("{}")
    (run / "report.html").write_text("<p>a report</p>")
    with testclient.TestClient(create_app(arguments, make_example=False), base_url="http://127.0.0.1") as client:
        found, = answer(client.get("/api/runs"))["runs"]
        expected = {"name": "logs/2026_demo", "steps": 2999, "has_report": True, "curves": ["train/l1"],
                    "images": ["images/train/step_0000010.png"], "results": ["val"], "running": False}
        assert {key: found[key] for key in expected} == expected
        points = answer(client.get("/api/runs/logs%2F2026_demo/curve?tag=train/l1"))["points"]
        assert len(points) == 1000 and points[-1][0] == 2999
        means = (1 + 1 / 2 + 1 / 3) / 3, (1 / 4 + 1 / 5) / 2
        assert [value for _, value in points[:2]] == pytest.approx(means)
        picture = client.get("/api/runs/logs%2F2026_demo/files/images/train/step_0000010.png")
        assert picture.headers["content-type"] == "image/png" and picture.content == png(np.zeros((4, 4)))
        report = client.get("/api/runs/logs%2F2026_demo/report")
        assert "a report" in report.text and "sandbox" in report.headers["content-security-policy"]


def test_everything_is_there_after_a_restart(arguments):
    from gi.app.server import create_app
    (arguments.folder / "x").mkdir(parents=True)
    write_video(arguments.folder / "x" / "clip.mp4", moving_pictures(4))
    with testclient.TestClient(create_app(arguments, make_example=False), base_url="http://127.0.0.1") as client:
        call = f"/api/projects/{answer(client.post('/api/projects', json={'path': 'x/clip.mp4'}))['id']}"
        client.put(f"{call}/marks/1", content=png(np.zeros((48, 64))))
        client.put(f"{call}/keyframes/2", content=png(np.zeros((48, 64, 3))))
        before = answer(client.get(call))
    with testclient.TestClient(create_app(arguments, make_example=False), base_url="http://127.0.0.1") as client:
        wait_for(lambda: answer(client.get(call))["proxies"]["done"] == 4)
        after = answer(client.get(call))
        different = {key for key in before if before[key] != after[key]}
        assert different <= {"proxies", "version"}


def test_one_server_a_folder(server, arguments):
    from gi.app.server import create_app
    with pytest.raises(InputError, match="another gi app works in this folder"):
        create_app(arguments, make_example=False)


def test_a_job_can_be_downloaded_under_the_name_of_its_video(server, still, monkeypatch):
    job = fake_job(server)
    job.project, job.state = still, "done"
    (server.queue.folder(job) / "result.txt").write_text("the result")
    found = server.client.get(f"/api/jobs/{job.id}/download")
    assert found.text == "the result" and 'filename="clip_filled.txt"' in found.headers["content-disposition"]
    part = server.client.get(f"/api/jobs/{job.id}/download", headers={"range": "bytes=4-5"})
    assert part.status_code == 206 and part.text == "re"


@pytest.mark.parametrize("words, expected", [
    (["--port", "99999999"], "--port 99999999"), (["--max-upload", "lots"], "such as 500M or 4G"),
    (["--password", ""], "is empty"), (["--password-file", "nowhere"], "nowhere"),
    (["--runs", "nowhere"], "no such folder"),
    (["--host", "no.such.host.invalid"], "no such address"), (["--prot", "1"], "--help"),
])
def test_wrong_options_are_one_line(tmp_path, capsys, words, expected):
    with pytest.raises(SystemExit) as end:
        main(["app", str(tmp_path / "work"), "--no-browser", *words])
    said = capsys.readouterr().err
    assert end.value.code == 2 and expected in said and said.count("\n") == 1


def test_a_taken_port_and_a_folder_that_is_none_are_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for words, expected in ([str(tmp_path / "work"), "--port", f"{port}"], "no free port"), (
                [str(tmp_path / "file"), "--port", "0"], "cannot be written to"):
            with pytest.raises(SystemExit) as end:
                main(["app", "--no-browser", *words])
            said = capsys.readouterr().err
            assert end.value.code == 2 and expected in said and said.count("\n") == 1


def test_without_its_packages_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit):
        main(["app", str(tmp_path), "--no-browser"])
    assert 'pip install ".[app]"' in capsys.readouterr().err


def test_the_server_does_without_torch(root):
    code = ("import sys, gi.app.server, gi.app.methods, gi.report.plots, gi.video.method; "
            "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


@pytest.mark.slow
def test_a_video_from_the_page_is_that_of_the_command_line(server, root, tmp_path):
    write_video(server.folder.path / "clip.mp4", moving_pictures(12), rate=12, sound="aac")
    call = f"/api/projects/{server.ok('POST', '/api/projects', json={'path': 'clip.mp4'})['id']}"
    mask = np.zeros((48, 64))
    mask[20:30, 30:40] = 255
    (tmp_path / "work" / "mask.png").write_bytes(png(mask))
    server.ok("PUT", f"{call}/masks", json={"path": "mask.png"})
    told = server.ok("POST", f"{call}/runs", json={"method": "flow"})
    job = f"/api/jobs/{told['id']}"
    ended = wait_for(lambda: (now := server.ok("GET", job))["state"] in ("done", "failed") and now, 300)
    assert ended["state"] == "done" and ended["frames_ready"] == [[0, 12]], ended
    (tmp_path / "page.mp4").write_bytes(server.client.get(f"{job}/download").content)
    words = [sys.executable, "-m", "gi", "inpaint-video", str(tmp_path / "work" / "clip.mp4"),
             str(tmp_path / "work" / "mask.png"), str(tmp_path / "line.mp4"), "--method", "flow", "--max-side", "960"]
    subprocess.run(words, cwd=root, check=True, capture_output=True)
    page, line = open_video(tmp_path / "page.mp4"), open_video(tmp_path / "line.mp4")
    assert (page.rate, page.times, page.width) == (line.rate, line.times, line.width) and page.count == 12
    assert np.array_equal([*page.frames()], [*line.frames()])
    assert (tmp_path / "page.mp4").stat().st_size == (tmp_path / "line.mp4").stat().st_size
    assert json.loads((server.folder.own / "times.json").read_text())["flow"]


def test_the_example_s_masks_are_where_the_ball_is():
    (_, _), (first, marked), (second, _) = itertools.islice(example.frames(), 3)
    changed = np.abs(first.astype(int) - second).max(axis=2) > 100  # the ball rolls faster than the camera
    assert 0.02 < marked.mean() < 0.06 and changed[marked > 0].mean() > 20 * changed[marked == 0].mean()


@pytest.mark.slow
def test_the_example_comes_with_its_masks(server):
    project = server.ok("POST", "/api/projects", json={"example": True})
    call = f"/api/projects/{project['id']}"
    assert project["count"] == 40 and project["masks"] == {"source": "example", "stale": False}
    frame, shown = (np.asarray(Image.open(io.BytesIO(server.client.get(f"{call}/{name}/5.png").content)))
                    for name in ("frames", "masks"))
    drawn, mask = next(itertools.islice(example.frames(), 5, None))
    assert np.abs(frame.astype(int) - drawn).mean() < 6 and np.array_equal(shown > 0, mask > 0)
