"""The queue: order, cancelling, resuming, errors, and what a restart finds."""
import errno
import json
import os
import signal
import subprocess
import sys

import httpx
import pytest

from tests.app.conftest import answer, fake_job, serving, wait_for


def state_of(server, job):
    return server.ok("GET", f"/api/jobs/{job.id}")["state"]


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:  # of a parent that has not looked yet
        return file.read().rpartition(")")[2].split()[0] == "Z"


def test_jobs_run_one_after_the_other_and_tell_how_far_they_are(server):
    first, second = fake_job(server, total=4, pause=0.05), fake_job(server)
    shown = {job["id"]: job for job in server.ok("GET", "/api/jobs")}
    assert list(shown) == [second.id, first.id] and shown[second.id]["position"] is not None
    wait_for(lambda: state_of(server, second) == "done")
    told = server.ok("GET", f"/api/jobs/{first.id}")
    assert (told["state"], told["what"], told["done"], told["total"]) == ("done", "frames filled", 3, 4)
    assert "this is for people" in told["log"] and told["seconds_left"] == 0 and told["position"] is None
    assert first.finished <= second.started
    kept = (server.queue.folder(first) / "progress.jsonl").read_text().splitlines()
    assert [json.loads(line).get("done") for line in kept] == [0, 1, 2, 3, None]


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN], ids=["terminal", "background"])
def test_a_cancelled_job_is_interrupted_and_goes_on_when_it_is_resumed(server, handler):
    """Also of a server that a shell has started in the background, where SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        job, next_one = fake_job(server, total=300, pause=0.1), fake_job(server)
        wait_for(lambda: server.ok("GET", f"/api/jobs/{job.id}")["done"] >= 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert server.ok("POST", f"/api/jobs/{job.id}/cancel")["state"] == "cancelling"
    wait_for(lambda: state_of(server, job) == "cancelled" and state_of(server, next_one) == "done")
    folder = server.queue.folder(job)
    assert (folder / "result.interrupted").exists() and gone(int((folder / "result.pid").read_text()))
    assert server.client.get(f"/api/jobs/{job.id}/download").status_code == 404
    job.words = [json.dumps({**json.loads(job.words[0]), "pause": 0})]
    assert server.ok("POST", f"/api/jobs/{job.id}/resume")["state"] in ("waiting", "running")
    wait_for(lambda: state_of(server, job) == "done")
    first = int((folder / "result.txt").read_text().split()[1])
    assert 2 <= first < 300
    assert server.client.post(f"/api/jobs/{job.id}/resume").status_code == 409


def test_a_waiting_job_is_taken_out_of_the_queue(server):
    running, waiting, last = fake_job(server, total=300, pause=0.1), fake_job(server), fake_job(server)
    wait_for(lambda: state_of(server, running) == "running")
    assert server.ok("GET", f"/api/jobs/{last.id}")["position"] == 1
    assert server.ok("POST", f"/api/jobs/{waiting.id}/cancel")["state"] == "cancelled"
    assert server.ok("GET", f"/api/jobs/{last.id}")["position"] == 0
    assert server.client.delete(f"/api/jobs/{running.id}").status_code == 409
    server.ok("DELETE", f"/api/jobs/{waiting.id}")
    assert server.client.get(f"/api/jobs/{waiting.id}").status_code == 404
    server.ok("POST", f"/api/jobs/{running.id}/cancel")
    wait_for(lambda: state_of(server, last) == "done")
    assert not (server.queue.folder(waiting) / "result.pid").exists()


@pytest.mark.parametrize("script, expected", [({"error": "masks.png: is no picture"}, "masks.png: is no picture"),
                                              ({"breaks": True}, "MemoryError: no more")])
def test_a_job_that_fails_says_why_in_a_line(server, script, expected):
    job = fake_job(server, **script)
    wait_for(lambda: state_of(server, job) == "failed")
    error = server.ok("GET", f"/api/jobs/{job.id}")["error"]
    assert error.endswith(expected) and "\n" not in error


def test_a_full_disk_stops_a_job_and_not_the_queue(server, monkeypatch):
    """It may fail when the job is written down, and when its child runs already, which then ends."""
    fake_job(server, total=3, pause=0.2)
    unwritten, unheard, last = fake_job(server), fake_job(server, total=300, pause=0.1), fake_job(server)
    (server.queue.folder(unheard) / "progress.jsonl").mkdir()
    save = server.queue._save

    def full(job):
        if job is unwritten:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(job)

    monkeypatch.setattr(server.queue, "_save", full)
    wait_for(lambda: state_of(server, last) == "done")
    assert unwritten.state == unheard.state == "failed" and "No space left" in unwritten.error
    assert not (server.queue.folder(unheard) / "result.txt").exists()


def test_a_measurement_makes_room_for_what_somebody_waits_for(server):
    measurement = fake_job(server, total=300, pause=0.1)
    measurement.kind = "measure"
    wait_for(lambda: state_of(server, measurement) == "running" and measurement.done)
    job = fake_job(server)
    wait_for(lambda: state_of(server, job) == "done")
    assert state_of(server, measurement) in ("waiting", "running")


def test_all_tabs_are_told(server):
    texts = []

    async def listen():
        async for text in server.events.stream():
            texts.append(text)
            if text.startswith("event: job\n") and '"state": "done"' in text:
                return

    streams = [server.client.portal.start_task_soon(listen) for _ in range(2)]
    wait_for(lambda: len(texts) == 2)  # both have begun
    job = fake_job(server)
    for stream in streams:
        stream.result(timeout=20)
    done = [text for text in texts if '"state": "done"' in text]
    assert len(done) == 2 and all(json.loads(text.split("data: ")[1])["id"] == job.id for text in done)


# With servers of their own -----------------------------------------------------------------------------------------

def start(folder, root):
    words = ["-m", "gi", "app", str(folder), "--port", "0", "--no-browser"]
    process = subprocess.Popen([sys.executable, *words], cwd=root, stderr=subprocess.PIPE, text=True)
    address = process.stderr.readline().split()[0]
    client = httpx.Client(base_url=address, timeout=20)
    return process, client


def put_job(folder, number, **script):
    """A job in the queue on disk, as an earlier server has left it."""
    from dataclasses import asdict

    from gi.app.job import Job
    place = folder / "gi-app" / "jobs" / f"{number:016x}"
    place.mkdir(parents=True)
    state = script.pop("state", "waiting")
    job = Job(id=place.name, kind="fake", method="fake", project=None, result="result.txt", module="tests.app.fake",
              words=[json.dumps({"out": str(place / "result.txt"), **script})], state=state, about={"amount": 1.0})
    write_job(place, asdict(job))
    return place


def read_job(place):
    return {key: value for key, value in json.loads((place / "job.json").read_text()).items() if key != "seal"}


def write_job(place, about):
    """As a server of this user writes it."""
    from gi.app.seal import Seal
    (place / "job.json").write_text(json.dumps({**about, "seal": Seal().of(about)}))


@pytest.mark.parametrize("ending", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_queue_outlives_the_server_and_no_child_is_left(tmp_path, root, ending):
    """However the server ends, its child ends too, and the next server goes on with that job and those behind it."""
    place, behind = put_job(tmp_path, 1, total=300, pause=0.1), put_job(tmp_path, 2)
    process, client = start(tmp_path, root)
    try:
        wait_for(lambda: answer(client.get(f"/api/jobs/{place.name}"))["done"] >= 2)
        pid = int((place / "result.pid").read_text())
        process.send_signal(ending)
        assert process.wait(40) == (-signal.SIGKILL if ending == signal.SIGKILL else 0)
        wait_for(lambda: gone(pid), 30)
        assert not (place / "result.txt").exists()  # it did not run to its end
        about = read_job(place)
        script = {**json.loads(about["words"][0]), "pause": 0}  # the rest is quick
        write_job(place, {**about, "words": [json.dumps(script)]})
        process, client = start(tmp_path, root)
        wait_for(lambda: answer(client.get(f"/api/jobs/{behind.name}"))["state"] == "done")
        assert answer(client.get(f"/api/jobs/{place.name}"))["state"] == "done"
        assert int((place / "result.txt").read_text().split()[1]) >= 2  # not from the beginning
    finally:
        process.kill()
        process.wait()


def test_a_job_that_ends_servers_is_not_begun_for_ever(arguments):
    from gi.app.events import Events
    from gi.app.jobs import Queue
    place = put_job(arguments.folder, 1, state="running")
    states = []
    for _ in range(5):
        job = Queue(place.parent, Events(), lambda job: None).jobs[place.name]
        states.append(job.state)
        write_job(place, {**read_job(place), "state": "running"})
    assert states == ["waiting", "waiting", "waiting", "failed", "failed"]
    assert "resume" in job.error


@pytest.mark.parametrize("seal", [None, "00" * 32, 7, "\ud800", "of another content"])
def test_a_job_that_came_with_the_folder_is_never_run(arguments, seal):
    place = put_job(arguments.folder, 1)
    own = json.loads((place / "job.json").read_text())
    seal = own["seal"] if seal == "of another content" else seal
    (place / "job.json").write_text(json.dumps({**own, "words": [json.dumps({"out": "other"})], "seal": seal}))
    with serving(arguments) as server:
        told = server.ok("GET", f"/api/jobs/{place.name}")
        assert told["state"] == "failed" and "added elsewhere" in told["error"]
        refused = server.client.post(f"/api/jobs/{place.name}/resume")
        assert refused.status_code == 409 and "added elsewhere" in refused.text
        server.ok("POST", f"/api/jobs/{place.name}/cancel")
    with serving(arguments) as server:  # which must not have made it one of ours
        assert "added elsewhere" in server.ok("GET", f"/api/jobs/{place.name}")["error"]
    assert {path.name for path in place.iterdir()} == {"job.json"}


@pytest.mark.parametrize("change", [{"result": "../../../secret"}, {"result": ".."}, {"words": "abc"},
                                    {"state": "other"}, {"result": 1}])
def test_a_job_that_cannot_be_shown_is_left_out(arguments, change):
    place = put_job(arguments.folder, 1, state="done")
    (place / "job.json").write_text(json.dumps({**read_job(place), **change}))
    deep = place.with_name("0" * 15 + "2")
    deep.mkdir()
    (deep / "job.json").write_text("[" * 200_000)
    with serving(arguments) as server:
        assert server.ok("GET", "/api/jobs") == []


def test_the_key_of_seals_is_the_users_alone(tmp_path, monkeypatch):
    from gi.app.seal import Seal
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seal = Seal().of({"a": 1})
    assert Seal().fits(seal, {"a": 1}) and not Seal().fits(seal, {"a": 2})
    assert (tmp_path / "cache" / "gi" / "app.key").stat().st_mode & 0o077 == 0
    (tmp_path / "cache" / "gi" / "app.key").write_bytes(b"")  # a disk was full
    assert not Seal().fits(seal, {"a": 1}) and Seal().fits(Seal().of({"a": 1}), {"a": 1})
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # cannot be written
    assert not Seal().fits(seal, {"a": 1})
