"""Small JPEGs of all frames of a video, to scrub through: made once, in the background, by a child process.

    python -m gi.app.proxies VIDEO FOLDER [--fps 25]
"""
import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from gi.app import child
from gi.app.pictures import QUALITY, small_frames
from gi.media.files import open_video, parse_rate
from gi.media.source import VideoSource


def proxy(folder: Path, number: int) -> Path:
    """Where the proxy of a frame is, or will be."""
    return folder / f"{number:06d}.jpg"


def make(video: VideoSource, folder: Path) -> Iterator[int]:
    """Makes the proxies that are missing, in order, and yields how many there are."""
    done = next((number for number in range(video.count) if not proxy(folder, number).is_file()), video.count)
    yield done
    if done == video.count:
        return
    for number, frame in enumerate(small_frames(video, done), start=done):
        temporary = folder / f".{number:06d}.part"
        Image.fromarray(frame).save(temporary, format="JPEG", quality=QUALITY)
        os.replace(temporary, proxy(folder, number))
        yield number + 1


class Maker:
    """Makes proxies in a child process, of one video at a time. `tell(project, done)` is called once a second, in the
    event loop.
    """

    def __init__(self, tell: Callable):
        self.tell = tell
        self._turn, self._tasks = asyncio.Semaphore(1), {}

    def start(self, project: Any) -> None:
        """Begins with those of a project, unless that has been done."""
        if project.id not in self._tasks:
            self._tasks[project.id] = asyncio.create_task(self._make(project))

    async def stop(self, project_id: str) -> None:
        """Ends the work for a project."""
        if task := self._tasks.pop(project_id, None):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        for project_id in tuple(self._tasks):
            await self.stop(project_id)

    async def _make(self, project) -> None:
        words = [str(project.source), str(project.proxies), *project.rate_words]
        async with self._turn:
            process = await child.start("gi.app.proxies", words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                async for line in process.stdout:
                    with contextlib.suppress(ValueError, KeyError):
                        self.tell(project, json.loads(line)["done"])
                error = (await process.stderr.read()).decode(errors="replace").strip()
                if await process.wait():
                    self.tell(project, None, error.rpartition("\n")[2].removeprefix("error: "))
            finally:
                await child.end(process)


def main() -> None:
    """Prints {"done": n} once a second and at the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("video", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fps")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    reported, done = 0.0, 0
    for done in make(open_video(args.video, rate=parse_rate(args.fps)), args.folder):
        if time.monotonic() - reported > 1:
            reported = time.monotonic()
            print(json.dumps({"done": done}), flush=True)
    print(json.dumps({"done": done}), flush=True)


if __name__ == "__main__":
    main()
