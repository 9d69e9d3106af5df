"""Server-sent events that tell all open pages what happens."""
import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

HEARTBEAT = 15  # seconds; proxies between would close a silent connection
WAITING = 2000  # events for a page that does not read; then it is cut off, and connects anew


class Events:
    """`publish` may be called from any thread once `loop` is set."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._pages: set[asyncio.Queue] = set()

    def publish(self, name: str, data: dict) -> None:
        """Tells all pages."""
        self.soon(self._put, f"event: {name}\ndata: {json.dumps(data)}\n\n")

    def soon(self, function: Callable, *arguments: object) -> None:
        """Schedules a call in the event loop; ignored before the loop runs and after it has ended."""
        with contextlib.suppress(RuntimeError, AttributeError):
            self.loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        """Ends all streams."""
        self.soon(self._put, None)

    def _put(self, text: str | None) -> None:
        for page in tuple(self._pages):
            try:
                page.put_nowait(text)
            except asyncio.QueueFull:
                self._pages.discard(page)

    async def stream(self) -> AsyncIterator[str]:
        """The text of a stream, for one page."""
        page: asyncio.Queue = asyncio.Queue(WAITING)
        self._pages.add(page)
        try:
            yield "retry: 2000\n\n"
            while page in self._pages:
                try:
                    text = await asyncio.wait_for(page.get(), HEARTBEAT)
                except asyncio.TimeoutError:
                    text = ": still here\n\n"
                if text is None:
                    return
                yield text
        finally:
            self._pages.discard(page)
