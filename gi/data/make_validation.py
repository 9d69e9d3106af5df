"""Makes a validation set from any folder of photographs, under the names of the original release (`GuidedFolder`).

The target is the largest central square of a photograph, scaled to `size`. Its keyframes are frames as in training
(`gi.data.pairs`), each distorted on its own from a view of `size + margin` pixels around the target, which goes on
mirrored where the photograph ends. Masks are those of training. The random numbers of a sample come from (seed, index),
apart for target and keyframes: with more keyframes, the first ones stay the same.

A set is the same, bit for bit, whatever the number of workers, and on every machine with the same versions of Pillow
(which decodes), NumPy (random numbers) and OpenCV (which draws strokes): all else is computed in whole numbers, or in
floating point steps that all machines round alike. Sines, cosines and tangents may differ in their last bit, which
changes any file of a set of 2,000 with a probability below one in a thousand.
"""
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import PIL

from gi import __version__
from gi.data import geometry as geo
from gi.data import integer_image
from gi.data.masks import MixedMask
from gi.data.photometric import Photometric, change_brightness
from gi.errors import InputError, expect_at_least
from gi.media import io
from gi.weights.files import file_sha256

MANIFEST = "manifest.json"
JOURNAL = ".manifest.partial.jsonl"  # one line a finished sample, until the manifest is written
MIN_SIDE = 64


@dataclasses.dataclass(frozen=True)
class Settings:
    """What determines a set, apart from the photographs. `margin` belongs to `size` as in training."""

    seed: int = 0
    count: int = 2000
    keyframes: int = 4
    size: int = 256

    def __post_init__(self):
        expect_at_least(0, seed=self.seed, keyframes=self.keyframes)
        expect_at_least(1, count=self.count)
        expect_at_least(16, size=self.size)

    @property
    def margin(self) -> int:
        return round(self.size * 200 / 256)


class Outcome(NamedTuple):
    """The outcome of `make_validation`."""

    count: int  # type: ignore[assignment]  # samples in the set
    kept: int  # how many of them were there before
    bad: dict[str, str]  # photograph: why it cannot be used


def make_validation(images: str | Path, out: str | Path, settings: Settings, *, workers: int = 1,
                    advance: Callable[[], None] = lambda: None) -> Outcome:
    """Writes the set of `settings` from the photographs below `images` to the folder `out`, and its manifest.

    What an earlier call finished is verified by its hashes and not made again. Bad photographs (unreadable, or with a
    side below 64 pixels) are replaced while there are others, else their samples are left out. `advance` is called
    after every sample. The manifest has settings, versions and bad photographs; for every sample its photograph, the
    square of it that is the target, every keyframe's transform, and the SHA-256 of all files.

    Raises InputError if there are too few photographs, or `out` holds anything else than (part of) this set.
    """
    expect_at_least(1, workers=workers)
    images, out = Path(images), Path(out)
    entries = io.list_images(images)
    if out.resolve().is_relative_to(images.resolve()):
        raise InputError(f"{out}: lies inside the folder of photographs, expected another place")
    if len(entries) < settings.count:
        raise InputError(f"{images}: has {len(entries)} images, expected at least {settings.count}; ask for fewer")
    listing = hashlib.sha256("\n".join(entries).encode(errors="surrogateescape")).hexdigest()
    versions = {"gi": __version__, "numpy": np.__version__, "opencv": cv2.__version__, "pillow": PIL.__version__}
    header = {"settings": dataclasses.asdict(settings),
              "photographs": {"count": len(entries), "names_sha256": listing}, "versions": versions}
    order = [entries[i] for i in np.random.default_rng(settings.seed).permutation(len(entries))]
    assigned, spare = dict(enumerate(order[: settings.count])), order[settings.count :]
    finished = _finished(out, header)
    make = functools.partial(_sample, images, out, settings)
    records: dict[int, dict] = {}
    bad: dict[str, str] = {}
    kept = 0
    with open(out / JOURNAL, "a", encoding="utf-8") as journal:
        while assigned:
            failed = []
            jobs = [(index, entry, finished.get((index, entry))) for index, entry in assigned.items()]
            for (index, entry, _), (record, intact, reason) in zip(jobs, _shared_out(make, jobs, workers), strict=True):
                if record is None:
                    failed.append(index)
                    bad[entry] = reason
                    continue
                kept += intact
                if not intact:
                    journal.write(json.dumps(record) + "\n")
                    journal.flush()
                records[index] = record
                advance()
            assigned, spare = dict(zip(failed, spare, strict=False)), spare[len(failed) :]
    head = json.dumps(header | {"bad": dict(sorted(bad.items()))}, indent=1).removesuffix("\n}")
    samples = ",\n".join(json.dumps(records[index]) for index in sorted(records))  # a line each
    with io.atomic_write(out / MANIFEST) as temporary:
        temporary.write_text(f'{head},\n "samples": [\n{samples}\n]}}\n', encoding="utf-8")
    (out / JOURNAL).unlink()
    return Outcome(count=len(records), kept=kept, bad=bad)


def _shared_out(make: Callable, jobs: list, workers: int) -> Iterator:
    """Results of `make` for each job, in their order, made by so many processes; in this process if it is one."""
    workers = min(workers, len(jobs))
    if workers == 1:
        yield from map(make, jobs)
        return
    try:  # spawned, as a process with threads is not to be forked
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(make, jobs)
    except BrokenProcessPool as error:
        raise InputError("a worker process died, perhaps for lack of memory; go on with fewer workers") from error


# One sample -----------------------------------------------------------------------------------------------------------

def _sample(images: Path, out: Path, settings: Settings,
            job: tuple[int, str, dict | None]) -> tuple[dict | None, bool, str]:
    """The manifest's record of a sample, whether its files were complete already, and why there is no record."""
    index, entry, record = job
    path = io.resolve_inside(images, entry)
    if record is not None and _is_intact(record, path, out):
        return record, True, ""
    try:
        photograph = io.read_image(path)
        height, width = photograph.shape[:2]
        if min(height, width) < MIN_SIDE:
            raise InputError(f"{path}: is {width}x{height}, expected at least {MIN_SIDE} a side")
        source_sha256 = file_sha256(path)
    except (InputError, OSError) as error:
        return None, False, str(error).removeprefix(f"{path}: ")
    view = integer_image.square_view(photograph, size=settings.size, margin=settings.margin)
    streams = np.random.SeedSequence((settings.seed, index)).spawn(1 + settings.keyframes)
    target_rng, *frame_rngs = (np.random.default_rng(stream) for stream in streams)
    size, start = settings.size, settings.margin // 2
    name, inner, mask = f"image_{index:06d}", slice(start, start + size), MixedMask()
    pictures = {f"{name}.png": view[inner, inner], f"{name}_mask.png": 255 * mask(target_rng, size, size)}
    transforms = []
    for number, rng in enumerate(frame_rngs):
        frame, transform = _frame(rng, view, size)
        stem = f"{name}_src_{number:06d}"
        pictures |= {f"{stem}.png": frame, f"{stem}_m.png": 255 * mask(rng, size, size)}
        transforms.append(transform)
    side = min(height, width)
    record = {
        "index": index,
        "source": entry,
        "source_sha256": source_sha256,
        "decoded_sha256": hashlib.sha256(photograph.tobytes()).hexdigest(),
        "square": {"left": (width - side) // 2, "top": (height - side) // 2, "side": side},
        "keyframes": transforms,
        "files": {file: _write(out / file, picture) for file, picture in pictures.items()},
    }
    return record, False, ""


def _frame(rng: np.random.Generator, view: np.ndarray, size: int) -> tuple[np.ndarray, dict]:
    """A keyframe from the view, and its transform, whose numbers are rounded first: those written down are exact."""
    steps, records = [], []
    for step in geo.FrameGeometry().sample(rng, view=len(view), size=size):
        numbers = {key: _rounded(value) for key, value in vars(step).items()}
        steps.append(dataclasses.replace(step, **numbers))  # type: ignore[type-var]
        records.append({"kind": type(step).__name__.lower()} | numbers)
    frame = integer_image.resample(view, geo.compose(steps, size=size))
    transform: dict[str, Any] = {"steps": records}
    changes = Photometric.of_frames()
    if rng.random() < changes.brightness_probability:
        limits = np.array([changes.brightness, changes.contrast])
        brightness, contrast = (round(float(x), 6) for x in rng.uniform(-limits, limits))
        frame = change_brightness(frame, brightness, contrast)
        transform |= {"brightness": brightness, "contrast": contrast}
    if rng.random() < changes.hsv_probability:
        limits = np.array([changes.saturation, changes.value])
        saturation, value = (round(float(x), 6) for x in rng.uniform(-limits, limits))
        frame = integer_image.shift_saturation_value(frame, saturation, value)
        transform |= {"saturation": saturation, "value": value}
    return frame, transform


def _rounded(value: np.ndarray | float | int) -> list | float | int:
    if isinstance(value, np.ndarray):
        return np.round(value, 4).tolist()
    return round(float(value), 8) if isinstance(value, float) else value


def _write(path: Path, picture: np.ndarray) -> str:
    data = integer_image.encode_png(picture)
    with io.atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


# Resuming -------------------------------------------------------------------------------------------------------------

def _finished(out: Path, header: dict) -> dict[tuple[int, str], dict]:
    """Records of what an earlier call wrote to `out`, by index and photograph; a folder ready for the journal."""
    out.mkdir(parents=True, exist_ok=True)
    manifest, journal = out / MANIFEST, out / JOURNAL
    if not journal.exists() and not manifest.exists() and any(name[0] != "." for name in os.listdir(out)):
        raise InputError(f"{out}: holds other files, expected a new or empty folder, or a set to go on with")
    existing, records = header, []
    try:
        if journal.exists():  # its last line may be incomplete
            existing, *records = map(json.loads, journal.read_text(encoding="utf-8").split("\n")[:-1])
        elif manifest.exists():
            existing = json.loads(manifest.read_text(encoding="utf-8"))
            records = existing["samples"]
        finished = {(record["index"], record["source"]): record for record in records}
        differing = [(key, existing[key]) for key in header if existing[key] != header[key]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{out}: its manifest cannot be read; delete the folder or name another") from error
    for key, value in differing:
        raise InputError(f"{out}: holds a set with other {key}, {json.dumps(value)[:200]} instead of "
                         f"{json.dumps(header[key])[:200]}; delete it or name another folder")
    for leftover in out.glob(".image_*.tmp.png"):  # of a process that was killed while writing
        leftover.unlink(missing_ok=True)
    with io.atomic_write(journal) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in [header, *records]), encoding="utf-8")
    return finished


def _is_intact(record: dict, path: Path, out: Path) -> bool:
    try:
        return file_sha256(path) == record["source_sha256"] and all(
            file_sha256(io.resolve_inside(out, file)) == digest for file, digest in record["files"].items()
        )
    except (OSError, KeyError, InputError):
        return False
