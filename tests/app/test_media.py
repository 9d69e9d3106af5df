"""Proxies, frames that are asked for before they are there, masks, slices through time."""
import io
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from gi.app import pictures, proxies
from gi.app.folder import Problem
from gi.media.crop import limited
from gi.media.files import open_video
from gi.media.orientation import Orientation
from tests.app.conftest import png, wait_for
from tests.video_helpers import matrix_of, moving_pictures, write_video


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def project_of(server, frames, name="clip.mp4", **options):
    write_video(server.folder.path / name, frames, **options)
    return server.ok("POST", "/api/projects", json={"path": name})


def difference(one, other):
    return np.abs(one.astype(int) - other.astype(int)).mean()


@pytest.mark.parametrize("options", [{}, {"matrix": 5, "full": True}, {"turn": "clockwise"}, {"turn": "mirrored"},
                                     {"form": "yuv420p10le"}])
def test_proxies_show_the_frames_as_players_do(tmp_path, monkeypatch, options):
    """Against every frame decoded at full size and reduced by OpenCV; at a size that is no half or quarter."""
    monkeypatch.setattr(pictures, "SIDE", 75)
    turn = options.pop("turn", None)
    path = tmp_path / "clip.mkv" if turn is None else tmp_path / "clip.mov"
    write_video(path, moving_pictures(5, 90, 120), **options)
    if turn:
        turned(path, turn)
    video = open_video(path)
    size = limited((video.width, video.height), 75)
    assert max(size) == 75 and (video.orientation != Orientation()) == bool(turn)
    made = list(pictures.small_frames(video, 0))
    assert len(made) == 5
    for small, frame in zip(made, video.frames(), strict=True):
        assert small.shape == (size[1], size[0], 3)
        assert difference(small, cv2.resize(frame, size, interpolation=cv2.INTER_AREA)) < 2


def turned(path, turn):
    """Writes a display matrix into a file of QuickTime."""
    content = path.read_bytes()
    place = content.index(b"tkhd") + 44  # version and flags, times, layer, volume
    path.write_bytes(content[:place] + struct.pack(">9i", *matrix_of(turn)) + content[place + 36:])


def test_making_proxies_goes_on_where_it_was_left(tmp_path):
    write_video(tmp_path / "clip.mp4", moving_pictures(8))
    video, folder = open_video(tmp_path / "clip.mp4"), tmp_path / "proxies"
    folder.mkdir()
    whole = proxies.make(video, folder)
    assert [next(whole) for _ in range(4)] == [0, 1, 2, 3]
    whole.close()
    before = proxies.proxy(folder, 2).stat().st_mtime_ns
    assert list(proxies.make(video, folder)) == [3, 4, 5, 6, 7, 8]
    assert proxies.proxy(folder, 2).stat().st_mtime_ns == before and list(proxies.make(video, folder)) == [8]
    assert sorted(path.name for path in folder.iterdir()) == [f"{number:06d}.jpg" for number in range(8)]


def test_a_frame_is_there_before_its_proxy_in_any_order(server, monkeypatch):
    monkeypatch.setattr(proxies.Maker, "start", lambda self, project: None)  # there will be none
    frames = moving_pictures(30)
    project = project_of(server, frames)
    exact = list(open_video(server.folder.path / "clip.mp4").frames())
    for number in (0, 1, 2, 17, 16, 29, 3, 3, 12):
        full = server.client.get(f"/api/projects/{project['id']}/frames/{number}.png")
        assert full.headers["content-type"] == "image/png" and np.array_equal(opened(full.content), exact[number])
        small = server.client.get(f"/api/projects/{project['id']}/frames/{number}.jpg?side=32").content
        assert opened(small).shape == (24, 32, 3)
        assert difference(opened(small), cv2.resize(exact[number], (32, 24), interpolation=cv2.INTER_AREA)) < 4


def test_a_project_of_a_video(server):
    rate = Fraction(30000, 1001)
    project = project_of(server, moving_pictures(6), rate=rate, sound="aac")
    expected = {"kind": "video", "name": "clip.mp4", "width": 64, "height": 48, "count": 6, "has_sound": True,
                "marks": [], "masks": None, "keyframes": [], "jobs": [], "fps": 29.97}
    assert {key: project[key] for key in expected} == expected
    call = f"/api/projects/{project['id']}"
    wait_for(lambda: server.ok("GET", call)["proxies"]["done"] == 6)
    assert server.ok("GET", call)["version"] > project["version"]
    frame = server.client.get(f"/api/projects/{project['id']}/frames/5.jpg")
    assert "immutable" in frame.headers["cache-control"]
    assert difference(opened(frame.content), moving_pictures(6)[5]) < 4


def test_masks_are_painted_uploaded_and_corrected(server):
    project = project_of(server, moving_pictures(4, 90, 1200))  # larger than its proxy, 960 x 72
    call = f"/api/projects/{project['id']}"
    left, right = np.zeros((90, 1200)), np.zeros((90, 1200))
    left[:, :600], right[:, 600:] = 255, 255
    assert project["proxy"] == {"width": 960, "height": 72}
    server.ok("PUT", f"{call}/marks/2", content=png(left))
    alpha = np.zeros((72, 960, 4))
    alpha[:, 480:] = (255, 255, 255, 200)  # as a canvas gives it: what was not painted is transparent
    assert server.ok("PUT", f"{call}/marks/0", content=png(alpha))["marks"] == [0, 2]
    server.folder.path.joinpath("still.png").write_bytes(png(right))
    changed = server.ok("PUT", f"{call}/masks", json={"path": "still.png"})
    assert changed["masks"] == {"source": "uploaded", "stale": False}
    shown = [opened(server.client.get(f"{call}/masks/{number}.png").content) for number in range(4)]
    assert all(mask.shape == (72, 960) and set(np.unique(mask)) == {0, 255} for mask in shown)
    assert [bool(mask[:, 0].all()) for mask in shown] == [False, False, True, False]  # the mark stays in its place
    painted = server.ok("PUT", f"{call}/marks/3", content=png(left))
    assert painted["masks"]["stale"] and painted["version"] > changed["version"]
    kept = server.projects.get(project["id"])
    assert np.array_equal(np.asarray(Image.open(kept.mask(3))), left)
    assert opened(server.client.get(f"{call}/masks/3.png").content)[:, 0].all()
    server.ok("DELETE", f"{call}/marks/3")
    assert server.ok("GET", call)["marks"] == [0, 2]
    assert server.ok("DELETE", f"{call}/masks")["masks"] is None


def test_a_deleted_mark_gives_the_mask_back(server, tmp_path):
    """Whether the mark came before the masks or after them, and however often it was painted."""
    project = server.projects.get(project_of(server, moving_pictures(3))["id"])
    masks = [(np.arange(64) < 9 * (number + 1)) * np.full((48, 1), 255) for number in range(3)]
    for number, mask in enumerate(masks):
        (tmp_path / f"{number}.png").write_bytes(png(mask))
    mark = png(np.full(project.size[::-1], 255))
    server.projects.put_mark(project, 1, mark)
    server.projects.put_masks(project, sorted(tmp_path.glob("?.png")), "uploaded")
    for number in 2, 2:
        server.projects.put_mark(project, number, mark)
    assert all(np.asarray(Image.open(project.mask(number))).all() for number in (1, 2))
    before = project.version
    for number in 1, 2:
        server.ok("DELETE", f"/api/projects/{project.id}/marks/{number}")
    assert project.version > before  # so that pages ask for it anew
    for number, mask in enumerate(masks):
        assert np.array_equal(np.asarray(Image.open(project.mask(number))), mask)


def test_masks_that_do_not_fit_are_refused(server):
    project = project_of(server, moving_pictures(4))
    write_video(server.folder.path / "short.mkv", moving_pictures(3), codec="ffv1", form="bgr0", tag=False)
    answer = server.client.put(f"/api/projects/{project['id']}/masks", json={"path": "short.mkv"})
    assert answer.status_code == 400 and "3 masks, expected 4" in answer.json()["error"]


def test_frames_that_are_pictures_are_a_video(server):
    frames = moving_pictures(3)
    upload = server.ok("POST", "/api/uploads?name=10.png", content=png(frames[2]))["upload"]
    for name, frame in ("9.png", frames[1]), ("2.png", frames[0]):
        found = server.ok("POST", f"/api/uploads?name={name}&into={upload}", content=png(frame))
    assert (found["kind"], found["files"]) == ("folder", 3)
    project = server.ok("POST", "/api/projects", json={"upload": upload, "fps": "12.5"})
    assert (project["count"], project["fps"], project["name"]) == (3, 12.5, "2.png")
    said = server.folder.shorten(f"{server.uploads.place(upload)}: 2 masks")
    assert said == "the pictures: 2 masks"
    for number in range(3):
        content = server.client.get(f"/api/projects/{project['id']}/frames/{number}.png").content
        assert np.array_equal(opened(content), frames[number])
    server.ok("DELETE", f"/api/projects/{project['id']}")
    assert not list(server.uploads.root.iterdir()) and not list(server.projects.root.iterdir())


def test_a_keyframe_is_uploaded_and_kept_as_it_is(server):
    frames = moving_pictures(3)
    project = project_of(server, frames)
    call = f"/api/projects/{project['id']}"
    changed = server.ok("PUT", f"{call}/keyframes/1", content=png(frames[1]))
    assert changed["keyframes"] == [{"n": 1, "source": "uploaded"}]
    assert np.array_equal(opened(server.client.get(f"{call}/keyframes/1.png").content), frames[1])
    assert opened(server.client.get(f"{call}/keyframes/1.jpg?side=16").content).shape == (12, 16, 3)
    assert server.ok("DELETE", f"{call}/keyframes/1")["keyframes"] == []
    assert server.client.get(f"{call}/keyframes/1.png").status_code == 404


def test_a_photo_is_decoded_once_for_all_small_pictures(server, monkeypatch):
    reads, read = [], pictures.io.read_image
    monkeypatch.setattr(pictures.io, "read_image", lambda path: reads.append(path) or read(path))
    frame = moving_pictures(1, 900, 1200)[0]
    (server.folder.path / "a.png").write_bytes(png(frame))
    call = f"/api/projects/{server.ok('POST', '/api/projects', json={'path': 'a.png'})['id']}/frames/0"
    for side in 320, 960, 320:
        small = opened(server.client.get(f"{call}.jpg?side={side}").content)
        size = side, side * 3 // 4
        assert small.shape == (*size[::-1], 3)
        assert difference(small, cv2.resize(frame, size, interpolation=cv2.INTER_AREA)) < 4
    assert len(reads) == 1
    assert opened(server.client.get(f"{call}.jpg?side=1200").content).shape == frame.shape and len(reads) == 2


def test_large_photos_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    """Or each request would take the memory of a whole photo."""
    at_work, most = [], []

    def slow(path):
        at_work.append(path)
        time.sleep(0.05)
        most.append(len(at_work))
        at_work.remove(path)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(pictures.io, "read_image", slow)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: pictures.photo_jpeg(tmp_path / f"{number}.png", 320), range(4)))
    assert most == [1] * 4


@pytest.mark.parametrize("kind", ["video", "photo", "folder"])
def test_a_source_that_was_replaced_is_told(server, monkeypatch, kind):
    """Rather than frames of one video among masks of another."""
    monkeypatch.setattr(proxies.Maker, "start", lambda self, project: None)
    name = {"video": "clip.mp4", "photo": "a.png", "folder": "frames"}[kind]
    path = server.folder.path / name
    if kind == "video":
        write_video(path, moving_pictures(3))
    file = path / "0.png" if kind == "folder" else path
    file.parent.mkdir(exist_ok=True)
    if kind != "video":
        file.write_bytes(png(moving_pictures(3)[0]))
    call = f"/api/projects/{server.ok('POST', '/api/projects', json={'path': name})['id']}"
    server.projects.reader.close()
    assert server.client.get(f"{call}/frames/0.jpg").status_code == 200
    server.ok("PUT", f"{call}/marks/0", content=png(np.zeros((48, 64))))
    server.projects.reader.close()
    file.write_bytes(png(moving_pictures(3)[2]))
    wanted = [server.client.get(f"{call}/frames/0.png"),
              server.client.post(f"{call}/runs", json={"method": "photo" if kind == "photo" else "flow"})]
    assert all(answer.status_code >= 400 and f"{name}: was changed" in answer.json()["error"] for answer in wanted)
    assert kind == "photo" or "was changed" in server.ok("GET", call)["proxies"]["problem"]


def test_slices_through_time_show_one_column_of_every_frame(tmp_path):
    frames = moving_pictures(7)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number}.jpg", quality=95)
    found = opened(pictures.slice_through_time(
        lambda number: None if number == 4 else tmp_path / f"{number}.jpg", 7, 40.5 / 64, 48))
    expected = np.stack([frame[:, 40] for frame in frames], axis=1)
    expected[:, 4] = 128
    assert found.shape == (48, 7, 3) and difference(found, expected) < 4
    long = opened(pictures.slice_through_time(lambda number: tmp_path / f"{number % 7}.jpg", 5000, 0.5, 48))
    assert long.shape == (48, pictures.LONGEST, 3)


def test_a_video_that_is_damaged_further_on_is_told(server):
    """Its beginning can be worked with; the page says what is wrong with the rest."""
    path = server.folder.path / "clip.mp4"
    write_video(path, moving_pictures(40, 96, 128), options={"g": "10", "bf": "0"})
    content = bytearray(path.read_bytes())
    middle = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
    content[middle:middle + 400] = bytes(400)
    path.write_bytes(content)
    call = f"/api/projects/{server.ok('POST', '/api/projects', json={'path': 'clip.mp4'})['id']}"
    assert "clip.mp4: frame" in wait_for(lambda: server.ok("GET", call)["proxies"]["problem"])
    assert server.client.get(f"{call}/frames/0.png").status_code == 200
    broken = [server.client.get(f"{call}/frames/{number}.png").status_code for number in range(40)]
    assert set(broken) == {200, 404}


def test_marks_stay_in_masks_of_any_origin_and_a_deleted_project_stays_deleted(server, tmp_path):
    project = server.projects.get(project_of(server, moving_pictures(3))["id"])
    server.projects.put_mark(project, 1, png(np.full(project.size[::-1], 255)))
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(np.zeros(project.size[::-1])))
    made = sorted(tmp_path.glob("?.png"))
    server.projects.put_masks(project, made, "clicks")
    shown = [np.asarray(Image.open(project.mask(number))).max() for number in range(3)]
    assert shown == [0, 255, 0] and project.marks == [1]
    server.projects.delete(project)
    with pytest.raises(Problem, match="no such project"):
        server.projects.put_masks(project, made, "uploaded")
    with pytest.raises(Problem, match="no such project"):
        server.projects.put_mark(project, 2, png(np.full(project.size[::-1], 255)))
    assert not project.folder.exists()
