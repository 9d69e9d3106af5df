"""Evaluation sets stored as files, under the names of the original release's validation data."""
import re
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from gi.data.sample import Sample
from gi.errors import InputError
from gi.media import io

_SOURCE = re.compile(r"(?P<stem>.+)_src_(?P<number>\d+)")


class GuidedFolder(Dataset):
    """A folder with, for each sample `X`: `X.png`, `X_mask.png` and keyframes `X_src_000000.png`, `X_src_000000_m.png`.

    A sample's name is X without a leading `image_`. All keyframes have numbers from 0 on and a mask each.

    Args:
        root: the folder.
        n_sources: how many keyframes to use, the first ones; None uses all that are there.
        files: a list of the images (`X.png`) to use, one path a line, relative to `root`; None uses all of the folder.
        mask_suffix, source_mask_suffix: what distinguishes a mask's name from its image's.

    Raises:
        InputError: naming the file, if something is missing, doubled or left over, or a sample has fewer keyframes
            than asked for; when a sample is read, if a file is damaged or sizes differ within it.
    """

    def __init__(
        self,
        *,
        root: str,
        n_sources: int | None = None,
        files: str | None = None,
        mask_suffix: str = "_mask",
        source_mask_suffix: str = "_m",
    ):
        if n_sources is not None and n_sources < 0:
            raise InputError(f"n_sources: expected at least 0 or none, got {n_sources}")
        self.root, self.mask_suffix, self.source_mask_suffix = Path(root), mask_suffix, source_mask_suffix
        there = {entry for entry in io.list_images(root) if entry.endswith(".png")}
        sources = self._keyframes(there)
        listed = self._images(there) if files is None else io.read_list(files)
        self.samples: list[tuple[str, str, list[str]]] = []
        seen: dict[str, str] = {}
        for image in listed:
            stem = image.removesuffix(".png")
            found = self._complete(there, image, sources.get(stem, {}))
            if n_sources is not None and n_sources > len(found):
                raise InputError(f"{self.root / image}: has {len(found)} keyframes, expected at least {n_sources}")
            name = (Path(stem).parent / Path(stem).name.removeprefix("image_")).as_posix()
            if seen.setdefault(name, image) != image:
                raise InputError(f"{self.root / image}: has the same name, {name}, as {seen[name]}")
            self.samples.append((name, stem, found[:n_sources]))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        name, stem, keyframes = self.samples[index]
        image = io.read_image(self._path(stem))
        height, width = image.shape[:2]
        mask = self._read_mask(stem + self.mask_suffix, image)
        sources = [self._read_source(keyframe, image) for keyframe in keyframes]
        source_masks = [self._read_mask(keyframe + self.source_mask_suffix, image) for keyframe in keyframes]
        return {
            "image": _channels_first(image),
            "mask": torch.from_numpy(mask)[None],
            "sources": _stack([_channels_first(source) for source in sources], (3, height, width)),
            "source_masks": _stack([torch.from_numpy(mask)[None] for mask in source_masks], (1, height, width)),
            "name": name,
        }

    def _keyframes(self, there: set[str]) -> dict[str, dict[int, str]]:
        found: dict[str, dict[int, str]] = {}
        for entry in sorted(there):
            match = _SOURCE.fullmatch(entry.removesuffix(".png"))
            if match is None:
                continue
            numbers, number = found.setdefault(match["stem"], {}), int(match["number"])
            if number in numbers:
                raise InputError(f"{self.root / entry}: keyframe {number} is there twice, as {numbers[number]}.png too")
            numbers[number] = entry.removesuffix(".png")
        return found

    def _images(self, there: set[str]) -> list[str]:
        """All images that are neither mask nor keyframe; complains about masks and keyframes without their image."""
        images = []
        for entry in sorted(there):
            owner = self._owner(entry.removesuffix(".png"))
            if owner is None:
                images.append(entry)
            elif f"{owner}.png" not in there:
                raise InputError(f"{self.root / entry}: the image that it belongs to, {owner}.png, is missing")
        if not images:
            raise InputError(f"{self.root}: no sample, expected image_000000.png, image_000000_mask.png and so on")
        return images

    def _owner(self, stem: str) -> str | None:
        """The stem of the image that a mask or a keyframe belongs to; None for a sample's own image."""
        source = stem.removesuffix(self.source_mask_suffix)
        if source != stem and _SOURCE.fullmatch(source):
            return source
        if stem.endswith(self.mask_suffix):
            return stem.removesuffix(self.mask_suffix)
        match = _SOURCE.fullmatch(stem)
        return match["stem"] if match else None

    def _complete(self, there: set[str], image: str, keyframes: dict[int, str]) -> list[str]:
        """A sample's keyframes in order, after checking that every file of it exists."""
        stem = image.removesuffix(".png")
        needed = [f"{stem}.png", f"{stem}{self.mask_suffix}.png"]
        for number in range(max(keyframes, default=-1) + 1):
            if number not in keyframes:
                raise InputError(f"{self.root / stem}_src_{number:06d}.png: missing, as there are later keyframes")
            needed.append(f"{keyframes[number]}{self.source_mask_suffix}.png")
        for entry in needed:
            if entry not in there:
                raise InputError(f"{self.root / entry}: no such file, expected for the sample {image}")
        return [keyframes[number] for number in sorted(keyframes)]

    def _read_source(self, stem: str, image: np.ndarray) -> np.ndarray:
        return _same_size(io.read_image(self._path(stem)), image, self.root / f"{stem}.png")

    def _read_mask(self, stem: str, image: np.ndarray) -> np.ndarray:
        return _same_size(io.read_mask(self._path(stem)), image, self.root / f"{stem}.png")

    def _path(self, stem: str) -> Path:
        return io.resolve_inside(self.root, f"{stem}.png")


def _same_size(array: np.ndarray, image: np.ndarray, path: Path) -> np.ndarray:
    if array.shape[:2] != image.shape[:2]:
        (height, width), (high, wide) = array.shape[:2], image.shape[:2]
        raise InputError(f"{path}: is {width}x{height}, expected {wide}x{high} as its image")
    return array


def _channels_first(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _stack(tensors: list[torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    return torch.stack(tensors) if tensors else torch.zeros((0, *shape), dtype=torch.uint8)
