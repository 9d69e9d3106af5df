"""The queue: one job after the other, each a child process; on disk, so that it outlives the server.

jobs/ID/ has job.json (what is to be done and how it ended), log.txt (the child's standard error), progress.jsonl (its
progress), preview/ (frames that are filled) and the inputs and result of the job.
"""
import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gi.app import child
from gi.app.events import Events
from gi.app.folder import Problem, now
from gi.app.job import (
    CANCELLED,
    CANCELLING,
    DONE,
    ENDED,
    FAILED,
    MEASURE,
    RUNNING,
    WAITING,
    YIELDING,
    Job,
    log_of,
    ready_frames,
    shell_command,
)
from gi.app.seal import Seal
from gi.errors import one_line
from gi.media import io

PAUSE = 0.2  # seconds between two events of a job
FOREIGN = "this job was added elsewhere or by an earlier version, so it is not run: add it again"
MOST_INTERRUPTIONS = 3  # by ends of the server; then a job has to be resumed by hand


class Queue:
    """All jobs of a working folder. finish: called with a job that is done, in a thread; what it raises fails the job.
    shorten: makes messages shorter, for people.
    """

    def __init__(self, root: Path, events: Events, finish: Callable[[Job], None],
                 shorten: Callable[[str], str] = str):
        self.root, self.events, self.finish, self.shorten = root, events, finish, shorten
        self.jobs: dict[str, Job] = {}
        self._wake = asyncio.Event()
        self._child: asyncio.subprocess.Process | None = None
        self._published: dict[str, float] = {}
        self._ready: dict[str, tuple[float, list[list[int]]]] = {}  # when to look again, and the last result
        self._seal, self._foreign = Seal(), set[str]()
        for file in sorted(root.glob("*/job.json")):
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
                content = json.loads(file.read_text(encoding="utf-8"))
                own = self._seal.fits(content.pop("seal", None), content)
                job = Job(**content)
                if job.id == file.parent.name and job.is_sound():
                    self.jobs[job.id] = job
                    if not own:
                        self._foreign.add(job.id)
        for job in self.jobs.values():
            if job.id in self._foreign:
                if job.state not in ENDED:
                    job.state, job.error = FAILED, FOREIGN
                continue
            if job.state == CANCELLING:
                job.state = CANCELLED
            elif job.state in (RUNNING, YIELDING):  # the server ended
                job.interruptions += 1
                again = job.interruptions <= MOST_INTERRUPTIONS
                job.state, job.error = (WAITING, None) if again else (
                    FAILED, f"interrupted {job.interruptions} times by the end of the server; resume goes on with it")
            else:
                continue
            self._save(job)

    def folder(self, job: Job) -> Path:
        return self.root / job.id

    def get(self, job_id: str) -> Job:
        """Raises Problem if there is none."""
        if job_id not in self.jobs:
            raise Problem("there is no such job", 404)
        return self.jobs[job_id]

    def new_folder(self) -> Path:
        """A folder for the inputs of a job that is to be added; its name is the job's id, and ids sort by time."""
        folder = self.root / f"{time.time_ns():016x}"
        folder.mkdir()
        return folder

    def add(self, job: Job) -> Job:
        """Puts a job, with the id of its folder, at the end of the queue."""
        job.created = now()
        self.jobs[job.id] = job
        self._save(job)
        self._tell_waiting()
        self.events.soon(self._look)
        return job

    def _look(self) -> None:
        """Wakes the queue; a running measurement yields to a job that a user waits for."""
        self._wake.set()
        running = next((job for job in self.jobs.values() if job.state == RUNNING), None)
        if running and running.kind == MEASURE and self.waiting()[:1] != [] and self.waiting()[0].kind != MEASURE:
            running.state = YIELDING
            self._interrupt()

    def _interrupt(self) -> None:
        """Tells the child to end; one that is just being started is told once it exists."""
        if self._child is not None:
            self._child.stdin.close()

    def cancel(self, job: Job) -> None:
        """Takes a job out of the queue, or interrupts it; what it has finished stays for `resume`."""
        if job.state == WAITING:
            job.state = CANCELLED
        elif job.state == RUNNING:
            job.state = CANCELLING
            self._interrupt()
        else:
            return
        self._save(job)
        self._tell_waiting()

    def resume(self, job: Job) -> None:
        """Puts a cancelled or failed job into the queue again. Raises Problem for others, and those from elsewhere."""
        if job.id in self._foreign:
            raise Problem(FOREIGN, 409)
        if job.state not in (CANCELLED, FAILED):
            raise Problem(f"this job is {job.state}: there is nothing to resume", 409)
        job.state, job.error, job.interruptions, job.finished = WAITING, None, 0, None
        self._save(job)
        self._tell_waiting()
        self.events.soon(self._look)

    def delete(self, job: Job) -> None:
        """Deletes a job and its result. Raises Problem while it runs."""
        if job.active:
            raise Problem("this job is running: cancel it first", 409)
        del self.jobs[job.id]
        shutil.rmtree(self.folder(job), ignore_errors=True)
        self.events.publish("job-removed", {"id": job.id})

    def oldest_first(self) -> list[Job]:
        return sorted(list(self.jobs.values()), key=lambda job: job.id)

    def jobs_of(self, project: str) -> list[str]:
        """Ids of the jobs of a project, the oldest first."""
        return [job.id for job in self.oldest_first() if job.project == project]

    def waiting(self) -> list[Job]:
        """In the order in which they will run: measurements when nothing else is to be done."""
        return sorted((job for job in self.oldest_first() if job.state == WAITING), key=lambda job: job.kind == MEASURE)

    async def run(self) -> None:
        """Runs jobs until it is cancelled; then the job at work is interrupted, and goes on with the next server."""
        while True:
            self._wake.clear()
            if waiting := self.waiting():
                try:
                    await self._run(waiting[0])
                except Exception as error:  # a full disk, say, must not stop the queue
                    await self._give_up(waiting[0], error)
            else:
                await self._wake.wait()

    async def _give_up(self, job: Job, error: Exception) -> None:
        if self._child is not None:
            await child.end(self._child)
            self._child = None
        job.state, job.error, job.finished = FAILED, self.shorten(one_line(error)), now()
        try:
            self._save(job)
        except OSError:
            self._tell(job)

    async def _run(self, job: Job) -> None:
        folder, start = self.folder(job), time.monotonic()
        job.state, job.started, job.attempts = RUNNING, now(), job.attempts + 1
        job.what, job.done, job.total, job.seconds_left, job.stages = "starting", 0, 0, None, {}
        job.error = job.finished = None
        self._save(job)
        self._tell_waiting()
        outcome: dict[str, Any] = {}
        try:
            with open(folder / "log.txt", "ab") as log:
                self._child = await child.start(job.module, job.words, stdout=subprocess.PIPE, stderr=log, limit=2**20)
            if job.state != RUNNING:
                self._interrupt()
            with open(folder / "progress.jsonl", "ab") as kept:
                async for line in self._child.stdout:
                    kept.write(line)
                    self._listen(job, line, outcome, time.monotonic() - start)
            status = await self._child.wait()
        except (OSError, ValueError) as error:
            if self._child is not None:
                raise
            status, outcome["error"] = 1, f"cannot be started: {io.reason(error)}"
        except asyncio.CancelledError:  # the server ends; on disk the job stays one that is running
            if self._child is not None:
                if job.kind == MEASURE:
                    self._child.kill()
                self._child.stdin.close()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._child.wait(), 5)  # else it ends by itself, a little later
            raise
        job.seconds = round(job.seconds + time.monotonic() - start, 2)
        self._child = None
        cancelled = job.state == CANCELLING
        if status == 0 and not (folder / job.result).exists():
            outcome["error"] = "it ended without a result"
        elif status == 0:
            try:
                await asyncio.to_thread(self.finish, job)
            except Exception as error:  # an unusable result must not stop the queue
                outcome["error"] = one_line(error)
        if status == 0 and "error" not in outcome:
            job.state, job.seconds_left = DONE, 0.0
        elif cancelled:
            job.state = CANCELLED
        elif job.state == YIELDING:  # it starts over later
            job.state, job.attempts, job.seconds = WAITING, 0, 0.0
            for chunks in folder.glob(".gi-*"):
                shutil.rmtree(chunks, ignore_errors=True)
        else:
            job.state, job.error = FAILED, self.shorten(
                outcome.get("error") or self._last_words(folder, status))
        job.finished = now()
        self._save(job)

    def _listen(self, job: Job, line: bytes, outcome: dict, seconds: float) -> None:
        try:
            news = json.loads(line)
        except ValueError:
            return
        if not isinstance(news, dict):
            return
        if "error" in news:
            outcome["error"] = str(news["error"])
        if "what" in news:
            if news["what"] not in job.stages:
                job.stages[news["what"]] = round(seconds, 2)
            job.what, job.done, job.total = str(news["what"]), int(news["done"]), int(news["total"])
            job.seconds_left = news.get("seconds_left")
            self._tell(job)

    def _last_words(self, folder: Path, status: int) -> str:
        lines = log_of(folder).splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        if errors:
            return errors[-1].removeprefix("error: ")
        if status in (-9, 137):
            return "it was ended by the system, probably because memory ran out; a smaller size needs less"
        return f"it ended with status {status}: {lines[-1] if lines else 'it said nothing'}"

    def describe(self, job: Job) -> dict:
        """As the page gets it."""
        folder = self.folder(job)
        waiting = [other.id for other in self.waiting()]
        public = {name: value for name, value in asdict(job).items()
                  if name not in ("words", "module", "about", "stages", "attempts", "interruptions")}
        result = folder / job.result
        public["result"] = {"name": result.name, "frames": job.total, "bytes": result.stat().st_size
                            } if job.state == DONE and result.is_file() else None
        return {**public, "position": waiting.index(job.id) if job.id in waiting else None,
                "command": shell_command(job), "frames_ready": self._frames_ready(job)}

    def _frames_ready(self, job: Job) -> list[list[int]]:
        """Cached for a time where listing takes long, as for a video of an hour."""
        start, (due, ready) = time.monotonic(), self._ready.get(job.id, (0.0, []))
        if start >= due or not job.active:
            ready = ready_frames(self.folder(job) / "preview")
            self._ready[job.id] = time.monotonic() + 20 * (time.monotonic() - start), ready
        return ready

    def _save(self, job: Job) -> None:
        job.version += 1
        with io.atomic_write(self.folder(job) / "job.json") as temporary:
            content = asdict(job)
            seal = None if job.id in self._foreign else self._seal.of(content)
            temporary.write_text(json.dumps({**content, "seal": seal}, indent=1), encoding="utf-8")
        self._published.pop(job.id, None)
        self._tell(job)

    def _tell(self, job: Job) -> None:
        if time.monotonic() - self._published.get(job.id, -PAUSE) >= PAUSE:
            self._published[job.id] = time.monotonic()
            job.version += 1
            self.events.publish("job", self.describe(job))

    def _tell_waiting(self) -> None:
        for job in self.waiting():  # their positions have changed
            self.events.publish("job", self.describe(job))
