"""A project: a video or photo, and what was painted on it. projects/ID/ has project.json and

    proxies/000000.jpg      small pictures of all frames, see gi/app/proxies.py
    marks/000012.png        what somebody painted on frame 12, at the size of the frame: 255 is the object
    masks/000000.png …      the masks of all frames, propagated or uploaded, with the marks in their places
    carried/000012.png      the mask that the mark of frame 12 replaces
    keyframes/000040.png    edited frames, at the size of the video

Files are replaced, never changed, so that jobs keep what they were given by links to them.
"""
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from gi.app import pictures
from gi.app.folder import ID, Problem, kind_of
from gi.errors import InputError
from gi.media.crop import limited
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
    stamp: list[int] | None = None  # shows whether the source was replaced; None in old projects

    def __post_init__(self) -> None:
        self.source, self.folder = Path(self.source), Path(self.folder)
        self.keyframes = {int(number): origin for number, origin in self.keyframes.items()}
        self.lock = threading.Lock()
        # Held while marks, masks and keyframes are replaced, and while a job is given links to them, all of one state.
        self.inputs = threading.RLock()

    def is_sound(self) -> bool:
        """Whether the values are valid, as project files may come from elsewhere."""
        numbers = self.width, self.height, self.count
        return (all(type(number) is int and number > 0 for number in numbers)
                and (self.upload is None or bool(re.fullmatch(ID, self.upload)))
                and len(self.names) in (0, self.count)
                and all(Path(name).name == name not in ("", "..") for name in self.names)
                and all(0 <= number < self.count for number in self.keyframes))

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def proxy_size(self) -> tuple[int, int]:
        return limited(self.size, pictures.SIDE)

    @property
    def proxies(self) -> Path:
        return self.folder / "proxies"

    def mark(self, number: int) -> Path:
        return self.folder / "marks" / f"{number:06d}.png"

    def mask(self, number: int) -> Path:
        return self.folder / "masks" / f"{number:06d}.png"

    def carried(self, number: int) -> Path:
        return self.folder / "carried" / f"{number:06d}.png"

    def keyframe(self, number: int) -> Path:
        return self.folder / "keyframes" / f"{number:06d}.png"

    def open(self) -> VideoSource:
        """The frames. Raises InputError if the file is gone or another by now."""
        self.check_source()
        return open_video(self.source, rate=parse_rate(self.fps_given))

    def check_source(self) -> None:
        """Raises InputError if the source is gone or another by now."""
        if self.stamp not in (None, stamp_of(self.source)):
            raise InputError(f"{self.source.name}: was changed or deleted since; open it as a new project")

    @property
    def rate_words(self) -> list[str]:
        """The words of a command that give the frames a second, where the video is a folder."""
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
        """Names, without suffix, by which commands match masks with this video's frames."""
        return self.names or [f"{number:06d}" for number in range(self.count)]


def stamp_of(source: Path) -> list[int]:
    """Bytes of a file, or of all pictures of a folder, and when the last of them was changed; [0, 0] if it is gone."""
    items = [item for item in source.iterdir() if kind_of(item) == "image"] if source.is_dir() else [source]
    files = [item.stat() for item in items if item.is_file()]
    return [sum(file.st_size for file in files), max((file.st_mtime_ns for file in files), default=0)]
