"""The interface of methods that fill videos, and the table of those available.

A new method is a subclass of `VideoMethod` in a file of its own and a line of `METHODS`: nothing else knows of it.
"""
import inspect
import pkgutil
import shlex
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import cv2
import numpy as np

from gi.config import instantiate, parse_value, schema
from gi.errors import InputError
from gi.media.arguments import edited_of, frames_of, masks_of, matched
from gi.media.crop import resize

T = TypeVar("T")


class Entry(NamedTuple):
    """An entry of `METHODS`."""

    target: str  # a class or function by its dotted path, whose keyword arguments are the method's options
    description: str


METHODS = {
    "keyframes": Entry("gi.video.keyframes.pipeline.VideoInpainter.from_checkpoint",
                       "the network at key targets, optical flow between them"),
    "flow": Entry("gi.video.keyframes.pipeline.VideoInpainter.from_flow",
                  "optical flow alone, and cv2.inpaint for what it does not reach"),
    "per-frame": Entry("gi.video.per_frame.PerFrame",
                       "every frame by itself, by the network, or with network=false by cv2.inpaint"),
    "internal": Entry("gi.internal.method.Internal", "a network that is fitted to this video first, for some minutes"),
    "diffusion": Entry("gi.diffusion.method.Diffusion", "a video diffusion model carries edited keyframes along"),
    "refine": Entry("gi.internal.refine.Refine", "flow, such a network, and a fitted choice between them"),
}


class Part(NamedTuple):
    """Work that can be done independently: frames first … stop - 1 of a video, made from its frames start … end - 1."""

    first: int
    stop: int
    start: int
    end: int
    count: int  # type: ignore[assignment]  # frames of the video

    @property
    def frames(self) -> range:
        return range(self.first, self.stop)


class Pictures(Protocol):
    """Frames or masks that can be read from anywhere and again, such as a `gi.media.source.VideoSource`."""

    count: int
    height: int
    width: int

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]: ...


class Held:
    """Frames or masks in memory, one or more, as `Pictures`."""

    def __init__(self, items: Sequence[np.ndarray]):
        self.count, (self.height, self.width), self._items = len(items), items[0].shape[:2], items

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        return iter(self._items[start:stop])


class VideoMethod(ABC):
    """Fills the holes of videos. Options are keyword arguments of the constructor, annotated and with defaults."""

    @abstractmethod
    def fill(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], *, edited: Mapping[int, np.ndarray],
             part: Part | None = None) -> Iterator[np.ndarray | None]:
        """Yields for every frame a picture that fills its hole, uint8 (h, w, 3), or None where there is no hole.

        Pictures may be of any size: they are enlarged to the frame's, and known pixels always remain the frame's.

        frames: uint8 (H, W, 3), RGB, which jobs give with 0 in the holes; masks: uint8 (H, W), anything but 0 is
        missing; items of one that the other has no counterpart for yet wait in memory. edited: frames by their number
        that were edited by hand and may guide others; what is yielded for them is not used. part: iterators begin with
        frame `part.start` and end before `part.end`; `part.first` … `part.stop` - 1 are wanted. It may be several
        neighbouring ones of `parts` at once. None: the whole video, of unknown length.
        """

    @abstractmethod
    def settings(self) -> Mapping[str, object]:
        """All that results depend on besides the video and the code, fit for JSON; weights by their checksum."""

    def parts(self, count: int, *, edited: Collection[int] = ()) -> list[Part]:
        """The parts of a video of `count` frames, in order, whose fills do not depend on which others are made."""
        return pieces(count, length=count)

    def fit(self, frames: Pictures, masks: Pictures, *, folder: Path,
            edited: Mapping[int, np.ndarray]) -> Iterator[tuple[int, int]]:
        """Prepares for one video, and forgets an earlier one; yields (done, total) at the start and after each step.

        State belongs into `folder`, which later runs of the same video and settings find as it was left, also by an
        interruption. A finished fit is only read from there.
        """
        return iter(())

    @property
    def fits(self) -> bool:
        """Whether `fit` does anything."""
        return type(self).fit is not VideoMethod.fit

    def __call__(self, frames: Iterable, masks: Iterable, *,
                 edited: Mapping[int, object] | Sequence | None = None) -> Iterator[np.ndarray]:
        """Yields the frames with their holes filled, uint8 (H, W, 3), each as soon as it is known.

        frames: uint8 (H, W, 3), RGB, or PIL images, read once. masks: (H, W), as many, of the values that
        `gi.media.arguments.masks_of` takes. edited: frames, by their number from 0, that were edited by hand: they are
        handed on as they are, and what they show in their holes guides the others. Raises InputError naming the frame
        if something does not fit.
        """
        edited = edited_of(edited)
        pairs = matched(frames_of(frames), masks_of(masks), edited)
        frames, masks, own_frames, own_masks = apart((2 * pair for pair in pairs), 4)
        fills = self.fill(frames, masks, edited=edited)
        for number, (fill, frame, mask) in enumerate(zip(fills, own_frames, own_masks, strict=False)):
            yield edited[number] if number in edited else insert(fill, frame, mask)


def pieces(count: int, *, length: int = 20, reach: int = 0) -> list[Part]:
    """Parts of `length` frames each, made from themselves and `reach` more frames on either side."""
    return [Part(first, min(first + length, count), max(0, first - reach), min(first + length + reach, count), count)
            for first in range(0, count, length)]


def share(parts: Sequence[Part], number: int, of: int) -> list[Part]:
    """The share `number` (from 1) of `of` nearly equal runs of parts, for several machines.

    Raises InputError unless 1 <= number <= of.
    """
    if not 1 <= number <= of:
        raise InputError(f"chunk {number}/{of}: expected i/n with i from 1 to n")
    start, stop = (-(-len(parts) * i // of) for i in (number - 1, number))  # the first share is never empty
    return list(parts[start:stop])


def runs(parts: Iterable[Part]) -> list[list[Part]]:
    """Parts in lists of those that follow each other without a gap."""
    grouped = []
    for part in parts:
        if grouped and grouped[-1][-1].stop == part.first:
            grouped[-1].append(part)
        else:
            grouped.append([part])
    return grouped


def joined(run: Sequence[Part]) -> Part:
    """One part in place of several that follow each other."""
    return Part(run[0].first, run[-1].stop, min(part.start for part in run), max(part.end for part in run),
                run[0].count)


def apart(tuples: Iterator[tuple], number: int) -> list[Iterator]:
    """An iterator of each item of the tuples; one may run ahead of others. (itertools.tee would keep used items for
    longer.)
    """
    queues = [deque() for _ in range(number)]

    def take(own):
        while own or (items := next(tuples, None)) is not None:
            if not own:
                for queue, item in zip(queues, items, strict=True):
                    queue.append(item)
            yield own.popleft()
    return [take(queue) for queue in queues]


def insert(fill: np.ndarray | None, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`frame` (H, W, 3) with `fill` (h, w, 3), resized to it, where `mask` (H, W) is not 0; uint8."""
    if fill is None:
        return frame
    hole = mask != 0
    result = frame.copy()
    result[hole] = resize(fill, frame.shape[:2], cv2.INTER_CUBIC)[hole]
    return result


def build_method(text: str, options: Mapping[str, object] | None = None, *,
                 offered: Mapping[str, object] | None = None) -> VideoMethod:
    """The method that "NAME", or "NAME key=value …" stands for; NAME is one of `METHODS` or a dotted path.

    options: further ones; the method must know them. offered: options that it gets if it knows them. Raises InputError
    for a name that does not exist, and for options that the method does not have or does not take.
    """
    name, *words = shlex.split(text) or [""]
    options = {**(options or {}), **parse_options(words)}
    return build(name, options, table=METHODS, kind=VideoMethod, offered=offered)  # type: ignore[type-abstract]


def build(name: str, options: Mapping[str, object], *, table: Mapping[str, Entry], kind: type[T],
          offered: Mapping[str, object] | None = None) -> T:
    """The `kind` that `name` stands for in a `table`, or as a dotted path; see `build_method`."""
    if name not in table and "." not in name:
        hint = schema.nearest(name, table, f", or package.module.Name; there are {', '.join(table)}")
        raise InputError(f"method {name!r}: no such method{hint}")
    path = f"method {name}"
    target = pkgutil.resolve_name(table[name].target) if name in table else schema.find_target(name, path)
    known, _ = schema.parameters(target)
    options = {**{key: value for key, value in (offered or {}).items() if key in (known or ())}, **options}
    options = schema.arguments(target, options, path, instantiate, name=f"the method {name}")
    try:
        method = target(**options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(method, kind):
        raise InputError(f"{path}: is a {type(method).__name__}, expected a {kind.__module__}.{kind.__qualname__}")
    return method


def parse_options(words: Iterable[str]) -> dict[str, object]:
    """{key: value} of "key=value" words, values as in YAML. Raises InputError for other words."""
    options = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (equals and key.isidentifier()):
            raise InputError(f"{word}: expected an option of the method, key=value")
        options[key] = parse_value(value, key)
    return options


def say(line: str) -> None:
    """Prints a line about the work of a method to standard error, where progress is shown."""
    print(line, file=sys.stderr, flush=True)


def describe_options(words: Sequence[str], table: Mapping[str, Entry] = METHODS) -> str:
    """The documentation of the options of the method that the words of a command name by --method, if they also have
    --help; else "".
    """
    named = [word for text in words for word in (text.split("=", 1) if text.startswith("--method=") else [text])]
    help_requested = "--method" in named[:-1] and not {"-h", "--help"}.isdisjoint(words)
    name = named[named.index("--method") + 1] if help_requested else ""
    target = pkgutil.resolve_name(table[name].target) if name in table else None
    owner = getattr(target, "__self__", None)  # of a classmethod, whose options are those of its class as well
    return "\n\n".join(inspect.getdoc(part) or "" for part in (target, owner) if part is not None)


def describe_methods(table: Mapping[str, Entry] = METHODS) -> str:
    """A line for each method of a table, for --help."""
    return "\n".join(f"  {name:<10} {entry.description}" for name, entry in table.items())
