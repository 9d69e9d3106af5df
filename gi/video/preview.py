"""Small pictures of frames as soon as they are filled, for watching a job."""
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from gi.errors import InputError
from gi.media.crop import Box, limited, resize
from gi.media.io import atomic_write, reason
from gi.media.source import VideoSource
from gi.video.method import Part, insert

LARGEST = 960  # pixels on a side
QUALITY = 90
_OWN = ".gi-preview"  # in folders that previews may be written over


class Preview:
    """Writes frame 12 as 000012.jpg into `folder`, which is made. Raises InputError if it cannot be, or holds something
    else than earlier previews.

    Frames are read once more, in the order of the fills, so that nothing waits in memory.
    """

    def __init__(self, folder: Path, video: VideoSource, masks: VideoSource, edited: Mapping[int, np.ndarray]):
        self.folder, self._video, self._masks, self._edited = Path(folder), video, masks, edited
        own = self.folder / _OWN
        if self.folder.is_dir() and not own.exists() and (entries := sorted(self.folder.iterdir())):
            raise InputError(f"{folder}: the folder holds {entries[0].name}, expected an empty folder or a new name")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            own.touch()
        except OSError as error:
            raise InputError(f"{folder}: cannot be a folder for the preview: {reason(error)}") from error

    def watch(self, fills: Iterator[tuple[np.ndarray | None, Box | None]],
              part: Part) -> Iterator[tuple[np.ndarray | None, Box | None]]:
        """Yields the fill of each frame of a part, and the box of its hole, once the preview is written."""
        sources = zip(self._video.frames(part.first, part.stop), self._masks.frames(part.first, part.stop), strict=True)
        for number, (fill, hole), (frame, mask) in zip(part.frames, fills, sources, strict=False):
            self._write(number, self._edited.get(number, insert(fill, frame, mask)))
            yield fill, hole

    def _write(self, number, frame):
        small = resize(frame, limited(frame.shape[:2], LARGEST), cv2.INTER_AREA)
        with atomic_write(self.folder / f"{number:06d}.jpg") as temporary:
            Image.fromarray(small).save(temporary, format="JPEG", quality=QUALITY)
