"""Requests that must not be answered: of other pages and people, with paths that lead elsewhere, with hostile files."""
import json
import os
import shutil
import struct
import sys
import time
import zlib

import numpy as np
import pytest

from gi.app import safety
from gi.app.folder import Problem
from gi.app.safety import Guard, is_plain, safe_name
from gi.errors import InputError
from tests.app.conftest import arguments_in, png, serving, testclient, wait_for
from tests.video_helpers import moving_pictures, write_video

SECRET = b"nobody may see this"
OUTSIDE = ["..", "../", "../outside", "../outside/secret.png", "a/../../outside/secret.png", "/etc/passwd",
           "//etc/passwd", "..\\outside\\secret.png", "C:\\Windows\\win.ini", "C:secret.png", "\\\\host",
           "secret\0.png",
           "link/secret.png", "link", "filelink.png", "gi-app", "gi-app/jobs", ".hidden/secret.png", "./.hidden", "CON",
           "nul.png", "clip.mp4:stream", "clip.mp4.", "a" * 5000, "~/secret.png", "$HOME", "\ud800",
           "../" * 30 + "etc/passwd"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server for all requests that must change nothing, `project` of a video, and `place` as below."""
    with serving(arguments_in(tmp_path_factory.mktemp("shared"))) as server:
        server.place = make_place(server.folder.path)
        server.project = server.ok("POST", "/api/projects", json={"path": "clip.mp4"})["id"]
        yield server


@pytest.fixture
def place(server):
    return make_place(server.folder.path)


def make_place(work):
    """The working folder, with a video in it, and beside it what must stay secret; links lead there."""
    write_video(work / "clip.mp4", moving_pictures(3))
    outside = work.parent / "outside"
    outside.mkdir()
    (work / ".hidden").mkdir()
    for file in outside / "secret.png", work / ".hidden" / "secret.png":
        file.write_bytes(png(np.full((48, 64, 3), 77)) + SECRET)
    (work / "link").symlink_to(outside)
    (work / "filelink.png").symlink_to(outside / "secret.png")
    return work


def tree(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


# Who asks ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method, path, headers, status", [
    ("GET", "/api/state", {}, 200),
    ("GET", "/api/state", {"host": "localhost:7860"}, 200),
    ("GET", "/api/state", {"host": "192.168.1.20:7860"}, 200),
    ("GET", "/api/state", {"host": "[::1]:7860"}, 200),
    ("GET", "/api/state", {"host": "evil.example"}, 403),
    ("GET", "/api/state", {"host": "127.0.0.1.evil.example"}, 403),
    ("GET", "/", {"host": "evil.example"}, 403),
    ("GET", "/api/state", {"host": "user@evil.example:80"}, 403),
    ("GET", "/api/state", {"host": "["}, 403),
    ("POST", "/api/projects", {"origin": "http://evil.example"}, 403),
    ("POST", "/api/projects", {"origin": "null"}, 403),
    ("POST", "/api/projects", {"origin": "http://127.0.0.1:8888"}, 403),
    ("POST", "/api/projects", {"sec-fetch-site": "cross-site"}, 403),
    ("POST", "/api/projects", {"sec-fetch-site": "same-site"}, 403),
    ("PUT", "/api/projects/0/marks/0", {"origin": "http://evil.example"}, 403),
    ("DELETE", "/api/jobs/0", {"origin": "http://evil.example"}, 403),
    ("POST", "/api/login", {"origin": "http://evil.example"}, 403),
    ("GET", "/api/jobs", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
    ("GET", "/api/jobs", {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}, 200),
])
def test_only_the_page_itself_is_answered(shared, method, path, headers, status):
    answer = shared.client.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


def test_names_of_this_machine_can_be_added():
    guard = Guard(None, hosts=["Render-Box"])
    assert guard.is_own("render-box:7860") and guard.is_own("render-box.local") and not guard.is_own("render-box.evil")


def test_answers_forbid_what_a_page_of_ours_does_not_need(server):
    headers = server.client.get("/api/state").headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy and "object-src 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


def test_a_password_is_asked_for(arguments, monkeypatch):
    monkeypatch.setattr(safety, "PAUSE", 0.1)
    from gi.app.server import create_app
    arguments.password = "pässword"
    with testclient.TestClient(create_app(arguments, make_example=False), base_url="http://127.0.0.1") as client:
        for path in "/api/state", "/api/jobs", "/api/projects/0/frames/0.jpg", "/api/runs", "/api/events":
            assert client.get(path).status_code == 401
        assert client.post("/api/uploads?name=a.png", content=png(np.zeros((4, 4)))).status_code == 401
        assert not list((arguments.folder / "gi-app" / "uploads").iterdir())
        start = time.monotonic()
        for wrong in "", "pass", None, 5:
            assert client.post("/api/login", json={"password": wrong}).status_code == 403
        assert time.monotonic() - start >= 0.4
        assert client.get("/api/state", headers={"cookie": "gi_app_7860="}).status_code == 401
        answer = client.post("/api/login", json={"password": "pässword"})
        cookie = answer.headers["set-cookie"].lower()
        assert answer.status_code == 200 and "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/api/state").json()["password"] is True
        kept = f"gi_app_7860={client.cookies['gi_app_7860']}"
        client.post("/api/logout")
        assert client.get("/api/state", headers={"cookie": kept}).status_code == 401


# Where it leads ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_the_working_folder(shared, path):
    """By none of the requests that take a path, whatever it is made of."""
    server, place, project = shared, shared.place, shared.project
    before = tree(place.parent / "outside")
    quoted = path.encode("utf-8", "surrogatepass")
    quoted = "".join(f"%{byte:02x}" for byte in quoted)
    call = f"/api/projects/{project}"
    as_json = json.dumps({"path": path}).encode()
    answers = [
        server.client.get(f"/api/files?folder={quoted}"),
        server.client.post("/api/projects", content=as_json),
        server.client.put(f"{call}/masks", content=as_json),
        server.client.post(f"{call}/runs", content=b'{"method": "flow", "others": [' + as_json + b"]}"),
        server.client.get(f"/static/{quoted}"),
        server.client.get(f"/api/runs/{quoted}/report"),
        server.client.get(f"/api/runs/x/files/{quoted}"),
        server.client.get(f"/api/projects/{quoted}"),
        server.client.get(f"/api/projects/{quoted}/frames/0.png"),
        server.client.get(f"/api/jobs/{quoted}/download"),
        server.client.delete(f"/api/uploads/{quoted}"),
        server.client.delete(f"/api/projects/{quoted}"),
        server.client.post(f"/api/uploads?name=a.png&into={quoted}", content=png(np.zeros((4, 4)))),
    ]
    allowed = 200 if path in ("..", "../") else None  # clients take these away, so that another address is asked for
    for answer in answers:
        assert 400 <= answer.status_code < 500 or answer.status_code == allowed, (answer.url, answer.status_code)
        assert SECRET not in answer.content and b"root:" not in answer.content
    assert tree(place.parent / "outside") == before and (place / "clip.mp4").exists()


def test_the_listing_shows_nothing_of_what_lies_elsewhere(server, place):
    (place / "folder").mkdir()
    (place / "notes.txt").touch()
    os.mkfifo(place / "pipe.png")
    (place / "loop.png").symlink_to("loop.png")
    entries = server.ok("GET", "/api/files")["entries"]
    assert [(entry["name"], entry["kind"]) for entry in entries] == [("clip.mp4", "video"), ("folder", "folder")]


def test_links_among_frames_and_masks_are_not_followed(server, place):
    folder = place / "frames"
    folder.mkdir()
    (folder / "0.png").write_bytes(png(np.zeros((48, 64, 3))))
    (folder / "1.png").symlink_to(place.parent / "outside" / "secret.png")
    assert server.client.post("/api/projects", json={"path": "frames"}).status_code == 403
    project = server.ok("POST", "/api/projects", json={"path": "clip.mp4"})["id"]
    assert server.client.put(f"/api/projects/{project}/masks", json={"path": "frames"}).status_code == 403
    run = {"method": "flow", "others": [{"path": "frames"}]}
    assert server.client.post(f"/api/projects/{project}/runs", json=run).status_code == 403


@pytest.mark.parametrize("change", [
    {"upload": "../../precious"}, {"names": ["../../../../../precious/a", "b", "c"]}, {"names": ["a"]},
    {"width": "9" * 9}, {"height": 0}, {"count": 1.5}, {"keyframes": {"-1": "uploaded"}}, {"source": "../outside"},
])
def test_a_project_that_came_with_the_folder_leads_nowhere_else(arguments, change):
    with serving(arguments) as server:
        make_place(server.folder.path)
        project = server.ok("POST", "/api/projects", json={"path": "clip.mp4"})["id"]
        file = server.folder.own / "projects" / project / "project.json"
    about = json.loads(file.read_text())
    for told, number in ({}, 1), (change, 0):
        file.write_text(json.dumps({**about, **told}))
        with serving(arguments) as server:
            assert len(server.ok("GET", "/api/projects")) == number


@pytest.mark.parametrize("link", ["projects/link", "jobs/0/masks"])
def test_links_in_the_own_folder_of_the_page_are_refused(arguments, tmp_path, link):
    place = arguments.folder / "gi-app" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path)
    with pytest.raises(InputError, match="is a link"), serving(arguments):
        pass


def test_links_that_lead_to_themselves(arguments):
    """Among the frames of a project, and in its place when the server starts again."""
    from gi.app.server import create_app
    for folder in arguments.folder / "frames", arguments.folder / "others":
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(png(np.zeros((48, 64, 3))))
    (arguments.folder / "frames" / "loop.png").symlink_to("loop.png")
    with testclient.TestClient(create_app(arguments, make_example=False), base_url="http://127.0.0.1") as client:
        for name in "frames", "others":
            assert client.post("/api/projects", json={"path": name}).json()["count"] == 1
        assert client.post("/api/projects", json={"path": "frames/loop.png"}).status_code == 404
    shutil.rmtree(arguments.folder / "others")
    (arguments.folder / "others").symlink_to("others")
    with testclient.TestClient(create_app(arguments, make_example=False), base_url="http://127.0.0.1") as client:
        assert len(client.get("/api/projects").json()) == 2


def test_runs_do_not_lead_out_of_their_folder(arguments, tmp_path):
    from gi.app.server import create_app
    run = arguments.runs / "one"
    (run / "metrics").mkdir(parents=True)
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(np.zeros((4, 4))) + SECRET)
    (run / "metrics" / "link.png").symlink_to(secret)
    (run / "report.html").symlink_to(secret)
    (arguments.runs / "elsewhere").symlink_to(tmp_path)
    (run / "tensorboard").mkdir()
    for name, target in ("loop.tfevents", "loop.tfevents"), ("broken.tfevents", "nothing"):
        (run / "tensorboard" / name).symlink_to(target)
    (run / "script.js").write_text("alert(1)")
    with testclient.TestClient(create_app(arguments, make_example=False), base_url="http://127.0.0.1") as client:
        assert [found["name"] for found in client.get("/api/runs").json()["runs"]] == ["one"]
        for path in ("one/files/metrics/link.png", "one/report", "elsewhere/report", "one/files/script.js",
                     "one/files/%2e%2e/%2e%2e/secret.png", "%2e%2e/files/secret.png", "elsewhere/files/secret.png"):
            answer = client.get(f"/api/runs/{path}")
            assert answer.status_code in (403, 404) and SECRET not in answer.content, path


@pytest.mark.parametrize("name, expected", [
    ("clip.mp4", "clip.mp4"), ("Ünïcode ☂.mp4", "Ünïcode ☂.mp4"), ("../../etc/passwd", "passwd"),
    ("/etc/passwd", "passwd"), ("..\\..\\win.ini", "win.ini"), ("C:\\x\\clip.mp4", "clip.mp4"), ("..", "file"),
    ("", "file"), (".bashrc", "bashrc"), ("a\0b\n.mp4", "ab.mp4"), ("con.mp4", "_con.mp4"),
    ("LPT1", "_LPT1"), ("a:b.mp4", "ab.mp4"), ("x.mp4. . ", "x.mp4"),
    ("-rf.mp4", "-rf.mp4"), ("a" * 300 + ".mp4", "a" * 116 + ".mp4"), ("gpj.\u202eexe", "gpj.exe"),
    ("\ud800.png", "png"),
])
def test_names_of_uploads_mean_nothing_to_a_system(name, expected):
    assert safe_name(name) == expected
    assert is_plain(safe_name(name)) and os.sep not in safe_name(name)


# What comes in -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("announced", [True, False])
def test_a_file_that_is_too_large_is_refused_while_it_comes(server, announced):
    limit, chunk = server.uploads.limit, b"x" * 2**16
    content = b"x" * (limit + 1) if announced else (chunk for _ in range(limit // len(chunk) + 10))
    answer = server.client.post("/api/uploads?name=long.mp4", content=content)
    assert answer.status_code == 413 and "4 MB" in answer.json()["error"] and "long.mp4" in answer.json()["error"]
    assert not list(server.uploads.root.iterdir())


def test_a_name_stays_taken_until_its_file_has_come(server):
    with server.uploads.receive("a.png", None) as (upload, _, place):
        for _ in range(2):
            with pytest.raises(Problem, match="is in this upload already"), server.uploads.receive("a.png", upload):
                pass
        assert place.exists()


def test_a_folder_of_files_is_no_way_around_the_limit(server):
    picture = png(np.random.default_rng(0).integers(0, 256, (1000, 700, 3)))  # 2 MB, and 4 are the limit
    upload = server.ok("POST", "/api/uploads?name=0.png", content=picture)["upload"]
    answer = server.client.post(f"/api/uploads?name=1.png&into={upload}", content=picture)
    assert answer.status_code == 413 and [path.name for path in server.uploads.place(upload).iterdir()] == ["0.png"]


def test_a_full_disk_is_told(server, monkeypatch):
    import shutil
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 0))
    answer = server.client.post("/api/uploads?name=a.png", content=png(np.zeros((4, 4))))
    assert answer.status_code == 507 and "full" in answer.json()["error"]


@pytest.mark.parametrize("name, content", [
    ("a.mp4", b"import os; os.system('touch /tmp/x')"), ("a.py", b"print(1)"), ("a.html", b"<script>alert(1)</script>"),
    ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), ("a.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"),
    ("a.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"), ("a.png", b""), ("a.png", b"\x89PNG\r\n\x1a\n"),
    ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"),
    ("a.zip", b"PK\x03\x04" + bytes(40)),
])
def test_what_is_no_picture_or_video_is_refused_by_its_content(server, name, content):
    answer = server.client.post(f"/api/uploads?name={name}", content=content)
    assert answer.status_code == 415 and name in answer.json()["error"]
    assert not list(server.uploads.root.iterdir())


def test_nothing_beside_a_video_is_ever_run(server, tmp_path):
    """Python looks for modules beside what it runs: there is none of a name that commands import."""
    marker, work = tmp_path / "was_run", server.folder.path
    for folder in work, work / "gi-app", work / "gi-app" / "uploads":
        for module in "av", "numpy", "gi", "json", "sitecustomize", "usercustomize", "cv2":
            (folder / f"{module}.py").write_text(f"open({str(marker)!r}, 'w')")
    write_video(work / "clip.mp4", moving_pictures(3))
    (work / "mask.png").write_bytes(png(np.full((48, 64), 255) * (np.arange(64) < 9)))
    before = os.getcwd()
    os.chdir(work)
    try:
        project = server.ok("POST", "/api/projects", json={"path": "clip.mp4"})["id"]
        assert server.ok("PUT", f"/api/projects/{project}/masks", json={"path": "mask.png"})["masks"]
        wait_for(lambda: server.ok("GET", f"/api/projects/{project}")["proxies"]["done"] == 3)
    finally:
        os.chdir(before)
    assert not marker.exists() and str(work) not in sys.path


def test_a_picture_that_would_fill_the_memory_is_not_decoded(server):
    write_video(server.folder.path / "clip.mp4", moving_pictures(3))
    project = server.ok("POST", "/api/projects", json={"path": "clip.mp4"})["id"]
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    for path in "marks/0", "keyframes/0":
        answer = server.client.put(f"/api/projects/{project}/{path}", content=bomb)
        assert answer.status_code in (400, 415), answer.text
    assert server.client.post("/api/uploads?name=a.png", content=bomb).status_code == 415


@pytest.mark.parametrize("method, path, content, status", [
    ("POST", "projects", b"[1]", 400), ("POST", "projects", b"{", 400), ("POST", "projects", b"[" * 10**5, 400),
    ("POST", "projects", b'{"upload": 5}', 400), ("POST", "projects", b"x" * (2**20 + 1), 413),
    ("PUT", "projects/{}/marks/99", png(np.zeros((48, 64))), 404), ("PUT", "projects/{}/marks/-1", b"", 404),
    ("PUT", "projects/{}/marks/0", b"no picture", 400), ("PUT", "projects/{}/marks/0", png(np.zeros((4, 4))), 400),
    ("PUT", "projects/{}/keyframes/0", png(np.zeros((4, 4))), 400), ("PUT", "projects/{}/keyframes/0", b"?", 415),
    ("GET", "projects/{}/frames/99999999999999999999.jpg", None, 404), ("GET", "projects/{}/frames/3.jpg", None, 404),
    ("GET", "projects/{}/frames/0.jpg?side=99999", None, 400), ("GET", "projects/{}/masks/0.png", None, 404),
    ("POST", "projects/{}/runs", b'{"method": "flow"}', 409),
    ("POST", "projects/{}/runs", b'{"method": "os.system"}', 400), ("POST", "projects/{}/runs", b'{"method": []}', 400),
    ("POST", "projects/{}/propagate", b'{"method": {}}', 400),
    ("POST", "projects/{}/runs", b'{"method": "photo"}', 400), ("POST", "projects/{}/runs", b"{}", 400),
    ("POST", "projects/{}/runs", b'{"method": "flow", "options": {"checkpoint": "/etc/passwd"}}', 400),
    ("POST", "projects/{}/runs", b'{"method": "flow", "options": {"max_side": "64 --out /x"}}', 400),
    ("POST", "projects/{}/runs", b'{"method": "flow", "options": {"max_side": NaN}}', 400),
    ("POST", "projects/{}/propagate", b'{"method": "flow"}', 409),
    ("POST", "projects/{}/propagate", b'{"method": "x"}', 400),
    ("POST", "projects/{}/clicks", b'{"frame": 0, "points": [[1, 1, 1]]}', 409),
    ("GET", "jobs/0", None, 404), ("GET", "nothing", None, 404), ("PATCH", "jobs", None, 405),
])
def test_nonsense_is_one_line_and_no_error_of_the_server(shared, method, path, content, status):
    answer = shared.client.request(method, f"/api/{path.format(shared.project)}", content=content)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error and "\n" not in error and str(shared.folder.path) not in error
