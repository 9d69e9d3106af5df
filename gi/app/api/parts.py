"""The parts of the server that all addresses share, and helpers to read bodies and answer with pictures."""
import asyncio
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from gi.app.events import Events
from gi.app.folder import Folder, Problem, Uploads
from gi.app.job import Job
from gi.app.jobs import Queue
from gi.app.methods import Methods
from gi.app.project import Project
from gi.app.projects import Projects
from gi.app.safety import Sessions
from gi.app.tasks import Tasks

JSON_LIMIT, MARK_LIMIT = 2**20, 2**26  # bytes
DRAINED = 20  # seconds that a refused body is still read: browsers show no answer before they have sent all of it
thread = run_in_threadpool


@dataclass
class Parts:
    """sessions: None without a password."""

    folder: Folder
    uploads: Uploads
    projects: Projects
    queue: Queue
    tasks: Tasks
    methods: Methods
    events: Events
    sessions: Sessions | None

    def project(self, request: Request) -> Project:
        """The one in the address. Raises Problem if there is none."""
        return self.projects.get(request.path_params["project"])

    def job(self, request: Request) -> Job:
        """The one in the address. Raises Problem if there is none."""
        return self.queue.get(request.path_params["job"])

    def uses(self, upload: str) -> bool:
        """Whether a project or a job needs an upload."""
        return any(project.upload == upload for project in self.projects.newest_first()) or any(
            job.names(upload) for job in self.queue.oldest_first())

    def delete_job(self, job: Job) -> None:
        """Deletes a job, and the uploads that it alone needed. Raises Problem while it runs."""
        self.queue.delete(job)
        for upload in self.uploads.all():
            if job.names(upload) and not self.uses(upload):
                self.uploads.delete(upload)

    def source(self, named: Any) -> tuple[Path, str | None]:
        """What {"upload": ID} or {"path": RELATIVE} names, and the upload. Raises Problem for anything else."""
        if isinstance(named, dict) and isinstance(named.get("upload"), str):
            return self.uploads.path(named["upload"]), named["upload"]
        if isinstance(named, dict) and isinstance(named.get("path"), str):
            return self.folder.resolve(named["path"]), None
        raise Problem("expected the id of an upload, or a path in the working folder")


def size_text(size: int) -> str:
    """A size in bytes as text, such as "12 MB"."""
    for unit in "bytes", "KB", "MB", "GB":
        if size < 1024 or unit == "GB":
            break
        size /= 1024  # type: ignore[assignment]
    return f"{size:.3g} {unit}"


async def body(request: Request, limit: int, label: str) -> bytes:
    """The whole body of a request. Raises Problem if it is larger than `limit` bytes, as soon as that shows."""
    parts, size = [], 0
    try:
        if int(request.headers.get("content-length", 0)) > limit:
            raise Problem("", 413)
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise Problem("", 413)
            parts.append(chunk)
    except Problem:
        await drain(request)
        raise Problem(f"{label} is larger than {size_text(limit)}", 413) from None
    return b"".join(parts)


async def json_body(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body. Raises Problem for anything else."""
    try:
        content = json.loads(await body(request, JSON_LIMIT, "the request") or b"{}")
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Problem("expected an object of JSON")
    return content


async def drain(request: Request) -> None:
    """Reads and discards the rest of a request's body."""
    async def read():
        async for _ in request.stream():
            pass

    with contextlib.suppress(Exception):
        await asyncio.wait_for(read(), DRAINED)


def number_of(request: Request, name: str, lowest: int, highest: int) -> int | None:
    """A whole number of the query, None without it. Raises Problem if it is something else."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and lowest <= int(text) <= highest):
        raise Problem(f"{name}: expected a number from {lowest} to {highest}")
    return int(text)


def picture(content: Path | bytes, kind: str, request: Request, *, for_ever: bool = False) -> Response:
    """Answers with a picture; one that never changes, or whose address has a version, may be cached."""
    keep = for_ever or "v" in request.query_params
    headers = {"Cache-Control": "private, max-age=604800, immutable" if keep else "no-cache"}
    if isinstance(content, Path):
        if not content.is_file():
            raise Problem("there is no such picture", 404)
        return FileResponse(content, media_type=kind, headers=headers)
    return Response(content, media_type=kind, headers=headers)
