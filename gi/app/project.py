"""A project: a video or photo, and what was painted on it. projects/ID/ has project.json and

    proxies/000000.jpg      small pictures of all frames, see gi/app/proxies.py
    marks/000012.png        what somebody painted on frame 12, at the size of the frame: 255 is the object
    masks/000000.png …      the masks of all frames, propagated or uploaded, with the marks in their places
    keyframes/000040.png    edited frames, at the size of the video

Files are replaced, never changed, so that jobs keep what they were given by links to them.
"""
import threading
from dataclasses import dataclass, field
from pathlib import Path

from gi.app import pictures
from gi.app.folder import Problem
from gi.media.files import open_video, parse_rate
from gi.media.source import VideoSource


@dataclass
class Project:
    """source: the video, folder of frames or photo. keyframes: by whom each was made, "filled" or "uploaded"."""

    id: str
    kind: str
    name: str
    source: Path
    width: int
    height: int
    count: int
    fps: float
    fps_given: str | None
    has_sound: bool
    remarks: list[str]
    created: float
    folder: Path = Path()
    names: list[str] = field(default_factory=list)  # of the frames' files, without suffix, if they are files
    upload: str | None = None
    masks: dict | None = None  # {"source": …, "stale": …}
    keyframes: dict[int, str] = field(default_factory=dict)
    version: int = 0
    proxies_done: int = 0
    problem: str | None = None  # of the proxies

    def __post_init__(self) -> None:
        self.source, self.folder = Path(self.source), Path(self.folder)
        self.keyframes = {int(number): origin for number, origin in self.keyframes.items()}
        self.lock = threading.Lock()

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def proxy_size(self) -> tuple[int, int]:
        return pictures.fitting(*self.size)

    @property
    def proxies(self) -> Path:
        return self.folder / "proxies"

    def mark(self, number: int) -> Path:
        return self.folder / "marks" / f"{number:06d}.png"

    def mask(self, number: int) -> Path:
        return self.folder / "masks" / f"{number:06d}.png"

    def keyframe(self, number: int) -> Path:
        return self.folder / "keyframes" / f"{number:06d}.png"

    def open(self) -> VideoSource:
        """The frames. Raises InputError if the file is gone or another by now."""
        return open_video(self.source, rate=parse_rate(self.fps_given) if self.fps_given else None)

    @property
    def rate_words(self) -> list[str]:
        """What tells a command the frames a second, where the video is a folder."""
        return ["--fps", self.fps_given] if self.fps_given else []

    @property
    def marks(self) -> list[int]:
        """Numbers of the frames that were painted on."""
        return sorted(int(path.stem) for path in (self.folder / "marks").glob("[0-9]*.png"))

    def check(self, number: int) -> None:
        """Raises Problem if there is no frame of this number."""
        if not 0 <= number < self.count:
            raise Problem(f"there is no frame {number}, only 0 to {self.count - 1}", 404)

    def frame_names(self) -> list[str]:
        """Names of masks that commands take for this video's, without suffix."""
        return self.names or [f"{number:06d}" for number in range(self.count)]
