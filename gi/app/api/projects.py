"""Projects: opening and closing them, their pictures, marks, masks and keyframes, and their jobs."""
import asyncio
import contextlib
import math
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from secrets import token_hex

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gi.app import child, example, pictures
from gi.app.api.parts import MARK_LIMIT, Parts, body, json_body, number_of, picture, thread
from gi.app.folder import Problem, kind_of
from gi.app.job import Job
from gi.app.methods import METHODS
from gi.app.project import Project
from gi.app.projects import pictures_in
from gi.app.proxies import Maker
from gi.app.tasks import MEASURED
from gi.errors import InputError

LARGEST = 8192  # pixels of the longer side of a JPEG


class ProjectCalls:
    """Addresses below /api/projects."""

    def __init__(self, parts: Parts):
        self.parts, self.projects = parts, parts.projects
        self.proxies = Maker(self._proxies_made)
        self._one_example, self._background = asyncio.Lock(), set()

    def table(self) -> list[tuple[str, str, Callable]]:
        """(method, address, function)."""
        all_, one = "/api/projects", "/api/projects/{project}"
        return [
            ("GET", all_, self.all), ("POST", all_, self.create), ("GET", one, self.get), ("DELETE", one, self.delete),
            ("GET", f"{one}/frames/{{n:int}}.jpg", self.frame), ("GET", f"{one}/frames/{{n:int}}.png", self.frame_png),
            ("GET", f"{one}/marks/{{n:int}}.png", self.mark), ("PUT", f"{one}/marks/{{n:int}}", self.put_mark),
            ("DELETE", f"{one}/marks/{{n:int}}", self.delete_mark),
            ("GET", f"{one}/masks/{{n:int}}.png", self.mask), ("PUT", f"{one}/masks", self.put_masks),
            ("DELETE", f"{one}/masks", self.delete_masks),
            ("GET", f"{one}/keyframes/{{n:int}}.jpg", self.keyframe),
            ("GET", f"{one}/keyframes/{{n:int}}.png", self.keyframe_png),
            ("PUT", f"{one}/keyframes/{{n:int}}", self.put_keyframe),
            ("DELETE", f"{one}/keyframes/{{n:int}}", self.delete_keyframe),
            ("POST", f"{one}/keyframes/{{n:int}}/fill", self.fill), ("POST", f"{one}/propagate", self.propagate),
            ("POST", f"{one}/clicks", self.clicks), ("POST", f"{one}/runs", self.run),
            ("GET", f"{one}/estimates", self.estimates)]

    def begin(self, work: Coroutine) -> None:
        """Runs work in the background."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """Ends what runs in the background."""
        await self.proxies.close()
        for task in tuple(self._background):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Problem):
                await task

    def _answer(self, project: Project) -> Response:
        return JSONResponse(self.projects.describe(project))

    def _job(self, job: Job) -> Response:
        return JSONResponse(self.parts.queue.describe(job))

    # Opening and closing ---------------------------------------------------------------------------------------------

    def all(self, request: Request) -> Response:
        return JSONResponse([self.projects.describe(project) for project in self.projects.newest_first()])

    async def get(self, request: Request) -> Response:
        project = self.parts.project(request)
        await self._begin_proxies(project)
        return self._answer(project)

    async def create(self, request: Request) -> Response:
        payload = await json_body(request)
        fps, masks, upload = payload.get("fps"), None, None
        if payload.get("example") is True:
            source, masks = await self.example()
        else:
            located = await thread(self.parts.source, payload)
            source, upload = located
        project = await thread(self.projects.create, source, upload=upload, fps=None if fps is None else str(fps)[:20])
        if masks is not None:
            await thread(self.projects.put_masks, project, pictures_in(masks), "example")
        await self._begin_proxies(project)
        return self._answer(project)

    async def delete(self, request: Request) -> Response:
        project = self.parts.project(request)
        jobs = [job for job in self.parts.queue.oldest_first() if job.project == project.id]
        if any(job.active for job in jobs):
            raise Problem("a job of this project is running: cancel it first", 409)
        await self.proxies.stop(project.id)
        for job in jobs:
            await thread(self.parts.delete_job, job)
        await thread(self.projects.delete, project)
        return JSONResponse({"ok": True})

    async def example(self, name: str = example.NAME, frames: int = example.FRAMES) -> tuple[Path, Path]:
        """A video and its masks, made on the first call."""
        video = self.parts.folder.own / "example" / name
        masks = video.with_suffix("")
        async with self._one_example:
            if not video.is_file() or len(pictures_in(masks)) != frames:
                await self._call("gi.app.example", [str(video), "--masks", str(masks), "--frames", f"{frames}"])
        return video, masks

    async def _call(self, module: str, words: list[str]) -> None:
        """Waits for a child process. Raises Problem with its last line if it fails."""
        process = await child.start(module, words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            message = (await process.stderr.read()).decode(errors="replace").strip()
            if await process.wait():
                raise Problem(self.parts.folder.shorten(message.rpartition("\n")[2].removeprefix("error: ")))
        finally:
            await child.end(process)

    async def _begin_proxies(self, project: Project) -> None:
        if project.kind != "video" or project.proxies_done == project.count:
            return
        try:
            await thread(project.check_source)
        except InputError as error:
            self._proxies_made(project, None, str(error))
        else:
            self.proxies.start(project)

    def _proxies_made(self, project: Project, done: int | None, problem: str | None = None) -> None:
        self.projects.proxies_made(project, done, problem)
        if done == project.count:
            self.begin(self._measure())

    async def _measure(self) -> None:
        """Measures how long methods take, once proxies are made and the machine is idle."""
        video, masks = await self.example("measure.mp4", MEASURED)
        await thread(self.parts.tasks.measure, video, masks)

    # Pictures --------------------------------------------------------------------------------------------------------

    async def frame(self, request: Request) -> Response:
        project, number = self.parts.project(request), request.path_params["n"]
        side = number_of(request, "side", 16, LARGEST)
        jpeg = await thread(self.projects.frame_jpeg, project, number, side)
        return picture(jpeg, "image/jpeg", request, for_ever=True)

    async def frame_png(self, request: Request) -> Response:
        project, number = self.parts.project(request), request.path_params["n"]
        return picture(await thread(self.projects.frame_png, project, number), "image/png", request, for_ever=True)

    def mark(self, request: Request) -> Response:
        project = self.parts.project(request)
        return self._mask(project, project.mark(request.path_params["n"]), request)

    def mask(self, request: Request) -> Response:
        project = self.parts.project(request)
        if project.masks is None:
            raise Problem("there are no masks yet", 404)
        return self._mask(project, project.mask(request.path_params["n"]), request)

    def _mask(self, project: Project, path: Path, request: Request) -> Response:
        return picture(pictures.small_mask(path, project.proxy_size), "image/png", request)

    def keyframe(self, request: Request) -> Response:
        path = self.parts.project(request).keyframe(request.path_params["n"])
        if not path.is_file():
            raise Problem("there is no such keyframe", 404)
        side = number_of(request, "side", 16, LARGEST) or pictures.SIDE
        return picture(pictures.small_jpeg(path, side), "image/jpeg", request)

    def keyframe_png(self, request: Request) -> Response:
        return picture(self.parts.project(request).keyframe(request.path_params["n"]), "image/png", request)

    # Painting --------------------------------------------------------------------------------------------------------

    async def put_mark(self, request: Request) -> Response:
        project = self.parts.project(request)
        data = await body(request, MARK_LIMIT, "the mask")
        await thread(self.projects.put_mark, project, request.path_params["n"], data)
        return self._answer(project)

    def delete_mark(self, request: Request) -> Response:
        project = self.parts.project(request)
        self.projects.delete_mark(project, request.path_params["n"])
        return self._answer(project)

    async def put_masks(self, request: Request) -> Response:
        project = self.parts.project(request)
        source, upload = await thread(self.parts.source, await json_body(request))
        await thread(self.parts.folder.check_links, source)
        folder = project.folder / f".{token_hex(4)}"
        try:
            await self._call("gi.app.masks", [*map(str, (project.source, source, folder)), *project.rate_words])
            await thread(self.projects.put_masks, project, pictures_in(folder), "uploaded")
        finally:
            await thread(shutil.rmtree, folder, True)
            if upload and not self.parts.uses(upload):  # the project has masks of its own by now
                await thread(self.parts.uploads.delete, upload)
        return self._answer(project)

    def delete_masks(self, request: Request) -> Response:
        project = self.parts.project(request)
        self.projects.delete_masks(project)
        return self._answer(project)

    async def put_keyframe(self, request: Request) -> Response:
        project = self.parts.project(request)
        data = await body(request, min(self.parts.uploads.limit, 2**28), "the keyframe")
        file = project.folder / f".{token_hex(4)}.part"
        try:
            await thread(file.write_bytes, data)
            await thread(self.projects.put_keyframe, project, request.path_params["n"], file, "uploaded")
        finally:
            file.unlink(missing_ok=True)
        return self._answer(project)

    def delete_keyframe(self, request: Request) -> Response:
        project = self.parts.project(request)
        self.projects.delete_keyframe(project, request.path_params["n"])
        return self._answer(project)

    # Work ------------------------------------------------------------------------------------------------------------

    async def propagate(self, request: Request) -> Response:
        project, payload = self.parts.project(request), await json_body(request)
        options = payload.get("options") or ({"minutes": payload["minutes"]} if payload.get("minutes") else {})
        return self._job(await thread(self.parts.tasks.propagate, project, str(payload.get("method", "flow")), options))

    async def fill(self, request: Request) -> Response:
        project = self.parts.project(request)
        return self._job(await thread(self.parts.tasks.fill, project, request.path_params["n"]))

    async def clicks(self, request: Request) -> Response:
        project, payload = self.parts.project(request), await json_body(request)
        if not isinstance(frame := payload.get("frame"), int):
            raise Problem("frame: expected a number")
        return self._job(await thread(self.parts.tasks.clicks, project, frame, payload.get("points"),
                                      payload.get("carry") is True))

    async def run(self, request: Request) -> Response:
        project, payload = self.parts.project(request), await json_body(request)
        entries = payload.get("others") or []
        if not isinstance(entries, list) or len(entries) > 50:
            raise Problem("others: expected a list of at most 50 pictures")
        views = [view for entry in entries for view in await thread(self._views, entry)]
        method, options = str(payload.get("method")), payload.get("options")
        return self._job(await thread(self.parts.tasks.run, project, method, options, views))

    def _views(self, named: object) -> list[Path]:
        """The pictures of an upload or path: one, or all of a folder."""
        source, _ = self.parts.source(named)
        self.parts.folder.check_links(source)
        return [item for item in sorted(source.iterdir()) if kind_of(item) == "image"] if source.is_dir() else [source]

    def estimates(self, request: Request) -> Response:
        project, chosen, options = self.parts.project(request), request.query_params.get("method"), {}
        for name in "minutes", "max_side", "steps":
            with contextlib.suppress(ValueError):
                if math.isfinite(number := float(request.query_params.get(name, "nan"))):
                    options[name] = min(max(number, 0.1), 1e5)
        return JSONResponse({name: self.parts.methods.estimate(name, project, options if name == chosen else {})
                             for name in METHODS})
