"""State, login, events, uploads."""
import os
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

import gi
from gi.app import example
from gi.app.api.parts import Parts, drain, json_body, size_text, thread
from gi.app.folder import Problem
from gi.app.safety import safe_name


class Files:
    """Addresses of state, login, events and uploads. has_runs: whether there is a folder of training runs."""

    def __init__(self, parts: Parts, has_runs: bool):
        self.parts, self.has_runs = parts, has_runs

    def table(self) -> list[tuple[str, str, Callable]]:
        """(method, address, function)."""
        return [("GET", "/api/state", self.state), ("GET", "/api/events", self.events),
                ("GET", "/api/files", self.files),
                ("POST", "/api/login", self.login), ("POST", "/api/logout", self.logout),
                ("POST", "/api/uploads", self.upload), ("DELETE", "/api/uploads/{upload}", self.delete_upload)]

    def state(self, request: Request) -> Response:
        parts = self.parts
        graphics = ", with an NVIDIA graphics card" if os.path.exists("/proc/driver/nvidia/version") else ""
        return JSONResponse({
            "version": gi.__version__, "folder": str(parts.folder.path), "password": parts.sessions is not None,
            "limits": {"upload_bytes": parts.uploads.limit}, **parts.methods.describe(), "runs": self.has_runs,
            "example": {"available": True, "name": example.NAME, "seconds": example.FRAMES / example.RATE},
            "device": f"{os.cpu_count()} processor cores{graphics}"})

    def files(self, request: Request) -> Response:
        return JSONResponse(self.parts.folder.listing(request.query_params.get("folder", "")))

    async def events(self, request: Request) -> Response:
        return StreamingResponse(self.parts.events.stream(), media_type="text/event-stream",
                                 headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def login(self, request: Request) -> Response:
        if self.parts.sessions is None:
            return JSONResponse({"ok": True})
        password = (await json_body(request)).get("password")
        return await self.parts.sessions.open(password if isinstance(password, str) else "", request)

    async def logout(self, request: Request) -> Response:
        return self.parts.sessions.close(request) if self.parts.sessions else JSONResponse({"ok": True})

    async def upload(self, request: Request) -> Response:
        """The body is the file. Its size is counted as it arrives, whatever the header says, and it is never in memory
        as a whole.
        """
        uploads, into = self.parts.uploads, request.query_params.get("into")
        name, size = safe_name(request.query_params.get("name", "")), 0
        room = uploads.limit - (await thread(uploads.size, into) if into else 0)
        too_large = Problem(f"{name} is too large: {size_text(uploads.limit)} may be uploaded, or more if the page is "
                            "started with a larger --max-upload", 413)
        try:
            announced = int(request.headers.get("content-length", 0))
            if announced > room:
                raise too_large
            self.parts.folder.expect_room(announced)
            with uploads.receive(name, into) as (upload, temporary, final):
                with open(temporary, "wb") as file:
                    async for chunk in request.stream():
                        size += len(chunk)
                        if size > room:
                            raise too_large
                        await thread(file.write, chunk)
                if not size:
                    raise Problem(f"{name}: is empty", 415)
                os.replace(temporary, final)
                return JSONResponse(await thread(uploads.check, upload, final))
        except Problem as problem:
            if problem.status in (413, 507):
                await drain(request)
            raise

    def delete_upload(self, request: Request) -> Response:
        upload = request.path_params["upload"]
        if self.parts.uses(upload):
            raise Problem("a project or a job uses this upload", 409)
        self.parts.uploads.delete(upload)
        return JSONResponse({"ok": True})
