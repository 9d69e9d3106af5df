"""Jobs and their results."""
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from gi.app import pictures
from gi.app.api.parts import Parts, number_of, picture, thread
from gi.app.folder import Problem
from gi.app.job import DONE, Job, log_of
from gi.app.proxies import proxy
from gi.app.tasks import finished
from gi.media.files import open_video


class JobCalls:
    """Addresses below /api/jobs."""

    def __init__(self, parts: Parts):
        self.parts, self.queue = parts, parts.queue

    def table(self) -> list[tuple[str, str, Callable]]:
        """(method, address, function)."""
        one = "/api/jobs/{job}"
        return [("GET", "/api/jobs", self.all), ("GET", one, self.get), ("DELETE", one, self.delete),
                ("POST", f"{one}/cancel", self.cancel), ("POST", f"{one}/resume", self.resume),
                ("GET", f"{one}/frames/{{n:int}}.jpg", self.frame), ("GET", f"{one}/download", self.download),
                ("GET", f"{one}/xt.png", self.slice)]

    def all(self, request: Request) -> Response:
        return JSONResponse([self.queue.describe(job) for job in reversed(self.queue.oldest_first())])

    def get(self, request: Request) -> Response:
        job = self.parts.job(request)
        return JSONResponse({**self.queue.describe(job), "log": log_of(self.queue.folder(job))})

    async def cancel(self, request: Request) -> Response:
        job = self.parts.job(request)
        self.queue.cancel(job)
        return JSONResponse(self.queue.describe(job))

    async def resume(self, request: Request) -> Response:
        job = self.parts.job(request)
        self.queue.resume(job)
        return JSONResponse(self.queue.describe(job))

    async def delete(self, request: Request) -> Response:
        job = self.parts.job(request)
        await thread(self.parts.delete_job, job)
        if project := self.parts.projects.projects.get(job.project or ""):
            self.parts.projects.changed(project)
        return JSONResponse({"ok": True})

    async def frame(self, request: Request) -> Response:
        job, number = self.parts.job(request), request.path_params["n"]
        side = number_of(request, "side", 16, 8192)
        return picture(await thread(self._frame, job, number, side), "image/jpeg", request)

    def _frame(self, job: Job, number: int, side: int | None) -> Path | bytes:
        """The preview; for a larger picture, once there is one, the result."""
        preview, target_side = self._preview(job, number), side or pictures.SIDE
        if preview and target_side <= pictures.SIDE:
            return preview if side in (None, pictures.SIDE) else pictures.small_jpeg(preview, side)
        if job.state == DONE and (path := finished(job, self.queue)).is_file():
            if path.suffix == ".png":
                if number:
                    raise Problem("a photo has one picture", 404)
                return pictures.photo_jpeg(path, target_side)
            frame = self.parts.projects.reader.frame(lambda: open_video(path), job.id, number)
            return pictures.frame_jpeg(frame, target_side)
        if preview:
            return preview
        raise Problem("this frame is not filled yet", 404)

    def _preview(self, job: Job, number: int) -> Path | None:
        path = proxy(self.queue.folder(job) / "preview", number)
        return path if path.is_file() else None

    def download(self, request: Request) -> Response:
        job = self.parts.job(request)
        path = finished(job, self.queue)
        project = self.parts.projects.projects.get(job.project or "")
        stem = Path(project.name).stem if project else "video"
        return FileResponse(path, filename=f"{stem}_filled{path.suffix}", headers={"Cache-Control": "no-cache"})

    async def slice(self, request: Request) -> Response:
        job = self.parts.job(request)
        project = self.parts.projects.get(job.project or "")
        column = number_of(request, "column", 0, project.width - 1)
        variant = request.query_params.get("what", "after")
        if variant not in ("before", "after") or column is None:
            raise Problem("expected a column, and what=before or after")

        def frame(number: int) -> Path | None:
            place = proxy(project.proxies, number)
            return self._preview(job, number) if variant == "after" else place if place.is_file() else None

        return picture(await thread(pictures.slice_through_time, frame, project.count, (column + 0.5) / project.width,
                                    project.proxy_size[1]), "image/png", request)
