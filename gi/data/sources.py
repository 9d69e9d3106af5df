"""Where photographs come from. A source has a length, and for each index a path and a name that is unique in it.

Paths are kept as one array of bytes: a list of millions of Python strings would be copied into every worker process.
"""
import importlib.util
import os
from pathlib import Path
from typing import Literal

import numpy as np

from gi.errors import InputError
from gi.media import io


class ImageSource:
    """Photographs below `root`, given by their relative paths, which are also their names."""

    def __init__(self, root: str | Path, entries: list[str]):
        self.root = Path(root)
        self._entries = np.array([os.fsencode(entry) for entry in entries])

    def __len__(self) -> int:
        return len(self._entries)

    def name(self, index: int) -> str:
        return os.fsdecode(self._entries[index].item())

    def path(self, index: int) -> Path:
        return self.root / self.name(index)


class FolderTree(ImageSource):
    """All images of a folder and the folders below it, sorted."""

    def __init__(self, *, root: str):
        super().__init__(root, io.list_images(root))


class FileList(ImageSource):
    """The images that a text file lists, one path a line, relative to `root` and in that order."""

    def __init__(self, *, list: str, root: str):
        super().__init__(root, io.read_list(list))

    def path(self, index: int) -> Path:
        return io.resolve_inside(self.root, self.name(index))


class Places365(ImageSource):
    """Places365 at high resolution as torchvision lays it out (see `data/README.md`); nothing is downloaded here."""

    def __init__(self, *, root: str,
                 split: Literal["train-standard", "train-challenge", "val", "test"] = "train-standard"):
        from torchvision import datasets  # slow to import, and most runs read plain folders

        try:
            places = datasets.Places365(root, split=split, small=False)
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(f"{root}: not Places365 ({split}): {str(error).split(' You can')[0]}") from error
        if not Path(places.images_dir).is_dir():
            raise InputError(f"{places.images_dir}: no such folder, expected the high-resolution images of {split}")
        start = len(os.path.join(places.images_dir, ""))
        super().__init__(places.images_dir, [path[start:] for path, _ in places.imgs])


class BundledPhotographs(ImageSource):
    """Photographs that are installed together with scikit-image, by file name, such as `coffee.png`."""

    def __init__(self, *, names: list[str]):
        root = Path(importlib.util.find_spec("skimage").origin).parent / "data"
        absent = [name for name in names if not io.resolve_inside(root, name).is_file()]
        if absent or not names:
            available = ", ".join(io.list_images(root))
            raise InputError(f"names: scikit-image has no photograph {', '.join(absent)!r}, "
                             f"expected some of {available}")
        super().__init__(root, list(names))
