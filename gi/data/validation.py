"""Evaluation sets stored as files, under the names of the original release's validation data."""
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from gi.data.sample import Sample, make_sample
from gi.errors import InputError, expect_at_least
from gi.media import io
from gi.media.photos import same_size
from gi.media.samples import group_samples


class GuidedFolder(Dataset):
    """A folder with, for each sample `X`: `X.png`, `X_mask.png` and keyframes `X_src_000000.png`, `X_src_000000_m.png`.

    A sample's name is X without a leading `image_`. Keyframes have numbers from 0 on; without a mask, all of one is
    known. The first `n_sources` are used, or all. `files` lists the images (`X.png`) to use, one path a line, relative
    to `root`.

    Raises InputError, naming the file, if something is missing, doubled or left over, or a sample has fewer keyframes
    than asked for; when a sample is read, if a file is damaged or sizes differ within it.
    """

    def __init__(self, *, root: str, n_sources: int | None = None, files: str | None = None):
        expect_at_least(0, n_sources=n_sources or 0)
        self.root = Path(root)
        entries = [entry for entry in io.list_images(root) if entry.endswith(".png")]
        by_image = {f"{sample.name}.png": sample for sample in group_samples(root, entries)}
        samples: dict[str, tuple[Path, Path, list[tuple[Path, Path | None]]]] = {}  # image, mask, keyframes with masks
        for entry in by_image if files is None else io.read_list(files):
            sample = by_image.get(f"{entry.removesuffix('.png')}.png")
            if sample is None or sample.problem:
                raise InputError(sample.problem if sample else f"{self.root / entry}: no such file")
            if n_sources is not None and n_sources > len(sample.keyframes):
                count = len(sample.keyframes)
                raise InputError(f"{sample.image}: has {count} keyframes, expected at least {n_sources}")
            name = (Path(sample.name).parent / Path(sample.name).name.removeprefix("image_")).as_posix()
            if name in samples:
                raise InputError(f"{sample.image}: has the same name, {name}, as {samples[name][0]}")
            samples[name] = sample.image, sample.mask, sample.keyframes[:n_sources]
        self.samples = list(samples.items())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        name, (image, mask, keyframes) = self.samples[index]
        frames = self._read(io.read_image, [image, *(frame for frame, _ in keyframes)])
        holes = iter(self._read(io.read_mask, [mask, *(hole for _, hole in keyframes if hole is not None)], frames[0]))
        masks = [next(holes), *(np.zeros(frames[0].shape[:2], np.uint8) if hole is None else next(holes)
                                for _, hole in keyframes)]
        return make_sample(frames, masks, name)

    def _read(self, read, paths, image=None):
        """Arrays of one size, that of `image` or of the first of them."""
        arrays = [read(io.resolve_inside(self.root, path.relative_to(self.root).as_posix())) for path in paths]
        for path, array in zip(paths, arrays, strict=True):
            same_size(array, arrays[0] if image is None else image, str(path), "its image")
        return arrays
