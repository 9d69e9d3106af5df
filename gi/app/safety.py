"""Protects a page on this machine from use by others: checks where requests come from, and where they may lead.

`Guard` is around the whole application. A browser sends requests for any page that is open in it, so those that other
pages start are refused (Origin and Sec-Fetch-Site), as are requests to foreign host names (Host: DNS rebinding). Paths
of requests go through `Folder.resolve` of gi/app/folder.py.
"""
import asyncio
import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

READS = ("GET", "HEAD")
PAUSE = 1.0  # seconds after a wrong password
SESSIONS = 1000  # that are remembered; the oldest are dropped
# Names that Windows gives to devices, whatever their suffix.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
                               "style-src 'self'; object-src 'none'; base-uri 'none'; "
                               "form-action 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Refuses requests for other hosts, from other pages and, where there is a password, from browsers that have not
    given it.

    hosts: names of this machine besides localhost, addresses and its own; sessions: None without a password.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] = (), sessions: "Sessions | None" = None):
        self.app, self.sessions = app, sessions
        own = {"localhost", socket.gethostname().lower(), *map(str.lower, hosts)}
        self.hosts = own | {f"{name}.local" for name in own}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope) if scope["type"] == "http" else refuse("only HTTP is answered", 403)
        if refusal is not None:
            await refusal(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if not self.is_own(host):
            return refuse("this address is not known here: open the page by 127.0.0.1, or start it with --allow-host",
                          403)
        calls = path.startswith("/api/")
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        foreign |= headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if foreign and (calls or scope["method"] not in READS):
            return refuse("requests from other pages are not answered", 403)
        if calls and path != "/api/login" and self.sessions and not self.sessions.knows(Request(scope)):
            return refuse("log in first", 401)
        return None

    def is_own(self, host: str) -> bool:
        """Whether a Host header names this machine: by an address, which no name server can redirect, or its names."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.hosts:
            return True
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False


class Sessions:
    """Browsers that have given the password. They are forgotten when the server ends."""

    def __init__(self, password: str, name: str):
        self._password, self.cookie = password.encode(), name
        self._tokens: dict[str, None] = {}
        self._one_at_a_time = asyncio.Lock()

    def knows(self, request: Request) -> bool:
        return request.cookies.get(self.cookie, "") in self._tokens

    async def open(self, password: str, request: Request) -> Response:
        """Sets the cookie, or refuses after a pause, in which no other attempt is looked at."""
        async with self._one_at_a_time:
            if not hmac.compare_digest(password.encode(errors="replace"), self._password):
                await asyncio.sleep(PAUSE)
                return refuse("this is not the password", 403)
        token = secrets.token_urlsafe(32)
        self._tokens[token] = None
        while len(self._tokens) > SESSIONS:
            del self._tokens[next(iter(self._tokens))]
        response = JSONResponse({"ok": True})
        response.set_cookie(self.cookie, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return response

    def close(self, request: Request) -> Response:
        self._tokens.pop(request.cookies.get(self.cookie, ""), None)
        response = JSONResponse({"ok": True})
        response.delete_cookie(self.cookie, httponly=True, samesite="strict")
        return response


def refuse(message: str, status: int) -> JSONResponse:
    """An error as the page shows it."""
    return JSONResponse({"error": message}, status)


def safe_name(name: str, longest: int = 120) -> str:
    """A name of a file for any system, made from the name that a browser sent: its last part, without characters that
    have a meaning, no device of Windows, no hidden file, at most `longest` bytes; the suffix stays.
    """
    name = re.split(r"[/\\]", name.encode(errors="ignore").decode())[-1]
    name = re.sub(r'[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069<>:"|?*]', "", name).strip(". ")
    stem, dot, suffix = (name or "file").rpartition(".")
    stem, ending = (stem, dot + suffix[:10]) if dot else (suffix, "")
    if stem.partition(".")[0].strip().lower() in _DEVICES:
        stem = f"_{stem}"
    return stem.encode()[:longest - len(ending.encode())].decode(errors="ignore") + ending


def is_plain(path: str) -> bool:
    """Whether no part of a relative path is hidden, a device of Windows, names a stream of a file there, or is longer
    than names can be.
    """
    parts = re.split(r"[/\\]", path)
    return len(path) < 2000 and all(
        part == "." or not part.startswith(".") and not part.endswith((" ", ".")) and ":" not in part
        and part.partition(".")[0].strip().lower() not in _DEVICES and len(part.encode(errors="replace")) < 256
        for part in parts)
