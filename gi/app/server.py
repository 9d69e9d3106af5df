"""The server of the page: puts the parts together, and answers until Ctrl-C. It never imports torch."""
import argparse
import asyncio
import contextlib
import ipaddress
import mimetypes
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gi.app.api.files import Files
from gi.app.api.jobs import JobCalls
from gi.app.api.parts import Parts
from gi.app.api.projects import ProjectCalls
from gi.app.api.runs import RunCalls
from gi.app.events import Events
from gi.app.folder import Folder, Problem, Uploads
from gi.app.jobs import Queue
from gi.app.methods import Methods
from gi.app.projects import Projects
from gi.app.runs import Runs
from gi.app.safety import Guard, Sessions, refuse
from gi.app.tasks import Tasks
from gi.errors import InputError
from gi.media import io

PAGE = Path(__file__).parent / "page"


def create_app(args: argparse.Namespace, *, make_example: bool = True) -> Starlette:
    """The application for the arguments of `gi app`. Raises InputError if its folder cannot be used.

    make_example: at once, in the background, so that the first screen need not wait for it.
    """
    folder, events = Folder(args.folder), Events()
    methods = Methods(folder.own / "times.json", diffusion=args.diffusion, sam2=args.sam2)
    queue = Queue(folder.own / "jobs", events, lambda job: tasks.finish(job), folder.shorten)
    projects = Projects(folder, events, queue.jobs_of)
    tasks = Tasks(folder, projects, queue, methods)
    runs = args.runs or Path("logs")
    sessions = Sessions(args.password, f"gi_app_{args.port}") if args.password is not None else None
    uploads = Uploads(folder, args.max_upload)
    with contextlib.suppress(OSError):  # what cannot be read or deleted stays
        uploads.clean()
    parts = Parts(folder, uploads, projects, queue, tasks, methods, events, sessions)
    project_calls = ProjectCalls(parts)
    calls = [project_calls, JobCalls(parts), Files(parts, runs.is_dir()),
             RunCalls(Runs(runs) if runs.is_dir() else None)]
    api = [Route(path, call, methods=[method]) for part in calls for method, path, call in part.table()]

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        events.loop = asyncio.get_running_loop()
        work = asyncio.create_task(queue.run())
        if make_example:
            project_calls.begin(project_calls.example())
        try:
            yield
        finally:
            work.cancel()
            await project_calls.close()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            folder.close()

    async def index(request: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    app = Starlette(
        routes=[Route("/", index), Mount("/static", _Static(directory=PAGE, check_dir=False)), *api],
        middleware=[Middleware(Guard, hosts=args.allow_host, sessions=sessions)], lifespan=lifespan,
        exception_handlers={Problem: _say, InputError: _say, HTTPException: _say, OSError: _say, 500: _say})
    app.state.parts = parts
    return app


class _Static(StaticFiles):
    """Files of the page; a browser asks whether they have changed."""

    async def get_response(self, path, scope):
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _say(request: Request, error: Exception) -> Response:
    """Every error as one line of JSON."""
    if isinstance(error, HTTPException):
        return refuse(f"{request.url.path}: {error.detail}".strip(), error.status_code)
    if isinstance(error, Problem):
        return refuse(" ".join(str(error).split()), error.status)
    if isinstance(error, InputError):
        return refuse(" ".join(str(error).split()), 400)
    if isinstance(error, OSError):
        return refuse(f"the server cannot read or write a file: {io.reason(error)}", 500)
    return refuse(f"error in the server: {type(error).__name__}; its terminal shows more", 500)


class _Server(uvicorn.Server):
    """Ends the streams of open pages first, which would go on for ever; a second Ctrl-C does not cut that short."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.parts.events.close()
        if not self.should_exit:
            super().handle_exit(sig, frame)


def serve(args: argparse.Namespace) -> None:
    """Answers until Ctrl-C. Raises InputError if the port is taken, the host unknown or the folder unusable."""
    mimetypes.add_type("text/javascript", ".js")  # some systems have another type for it
    listener = _listen(args.host, args.port)
    with listener:
        args.port = listener.getsockname()[1]
        app = create_app(args)
        hostname = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(args.host, args.host)
        address = f"http://[{hostname}]:{args.port}/" if ":" in hostname else f"http://{hostname}:{args.port}/"
        if args.password is None and not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
            print(f"warning: whoever reaches {args.host} can use this page; --password-file asks for a password",
                  file=sys.stderr)
        print(f"{address}  (Ctrl-C ends it; files lie in {args.folder})", file=sys.stderr, flush=True)
        if not args.no_browser:
            threading.Timer(0.5, webbrowser.open, [address]).start()
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False,
                                timeout_graceful_shutdown=3, proxy_headers=False)
        server = _Server(config)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn hands the signal on when it has ended
            server.run(sockets=[listener])
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        if sys.platform != "win32":  # where it would let two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except socket.gaierror as error:
        raise InputError(f"--host {host}: no such address here") from error
    except OSError as error:
        if isinstance(error, PermissionError):
            raise InputError(f"--port {port}: needs more rights; take one above 1023") from error
        raise InputError(f"--port {port}: {host} has no free port of this number ({io.reason(error)}); take another, "
                         f"such as --port {port + 1 if port < 65535 else 7860}") from error
    return listener
