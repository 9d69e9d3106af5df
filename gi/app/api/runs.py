"""Training runs."""
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from gi.app.folder import Problem
from gi.app.runs import Runs

# Reports hold their pictures and styles and have no scripts; neither they nor other files of runs may do anything here.
_HARMLESS = {"Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'",
             "Cache-Control": "no-cache"}


class RunCalls:
    """Addresses below /api/runs; runs: None if there is no folder of runs."""

    def __init__(self, runs: Runs | None):
        self._runs = runs

    @property
    def runs(self) -> Runs:
        if self._runs is None:
            raise Problem("no folder with runs was given: start the page with --runs DIR", 404)
        return self._runs

    def table(self) -> list[tuple[str, str, Callable]]:
        """(method, address, function)."""
        one = "/api/runs/{name:path}"
        return [("GET", "/api/runs", self.all), ("GET", f"{one}/curve", self.curve),
                ("GET", f"{one}/report", self.report), ("GET", f"{one}/files/{{path:path}}", self.file)]

    def all(self, request: Request) -> Response:
        return JSONResponse({"folder": str(self.runs.folder), "runs": self.runs.list()})

    def curve(self, request: Request) -> Response:
        return JSONResponse(self.runs.curve(request.path_params["name"], request.query_params.get("tag", "")))

    def report(self, request: Request) -> Response:
        return FileResponse(self.runs.report(request.path_params["name"]), media_type="text/html; charset=utf-8",
                            headers=_HARMLESS)

    def file(self, request: Request) -> Response:
        path, kind = self.runs.file(request.path_params["name"], request.path_params["path"])
        return FileResponse(path, media_type=kind, headers=_HARMLESS)
