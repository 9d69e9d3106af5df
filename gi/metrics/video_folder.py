"""Videos of a method with their ground truth and masks: finding them, pairing them, reading them frame by frame.

Three layouts, distinguished by their content:

- the DEVIL benchmark's: `frame_0000_gt.png` and `frame_0000_mask.png` (there, black = missing) beside each other, and
  `frame_0000_pred.png` among the predictions; a folder of these is a video, a folder of such folders several;
- plain: `<video>/frames` and `<video>/masks`, as `gi.media.masks` has them, or one such folder; the prediction is a
  folder of frames or a video file of that name;
- files: a video file (or a folder of frames) with its masks named apart.
"""
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from gi.errors import InputError
from gi.media import io
from gi.media.files import VideoFolder, check_numbers, natural_order, open_video, video_name
from gi.media.masks import MaskSource, open_masks
from gi.media.source import VideoSource
from gi.metrics.folder import match


@dataclass(frozen=True)
class VideoPair:
    """Where a video's parts are. `devil`: in the benchmark's layout. `inverted`: masks are inverted compared with their
    layout's convention.
    """

    name: str
    truth: Path
    masks: Path
    prediction: Path | None
    inverted: bool
    devil: bool = False


class Clip:
    """An open pair: `count` frames at `rate` a second, which can be read repeatedly.

    `truth`, `holes` and `prediction` are a `VideoSource` each, of holes with frames (H, W), 1 = missing. remarks: on
    masks and predictions that have other numbers than the frames.

    rate: for frames in a folder, which have none of their own.

    Raises InputError, naming the file, if a part cannot be read, if counts, names or sizes of the parts differ, or if
    predictions are shifted against the frames.
    """

    def __init__(self, pair: VideoPair, rate: Fraction | None = None):
        self.name, path = pair.name, pair.prediction
        self.truth: VideoSource
        self.prediction: VideoSource | None
        if pair.devil:
            self.truth = VideoFolder(_closed(pair.truth), "_gt")
            _same_names(pair.truth, "_gt", pair.masks, "_mask")
            masks = open_masks(pair.masks, self.truth, dilate=0, ending="_mask")
        else:
            self.truth = open_video(_closed(pair.truth))
            masks = open_masks(_closed(pair.masks), self.truth, dilate=0)
        self.holes = Holes(masks, inverted=pair.inverted != pair.devil)  # which has black = missing
        if self.holes.empty:
            raise InputError(f"{pair.masks}: nothing is missing in any frame, there is no hole to score")
        if path is not None and path.is_dir() and _keys(path, "_pred"):
            self.prediction = VideoFolder(_closed(path), "_pred")
            if pair.devil:
                _same_names(pair.truth, "_gt", path, "_pred")
        else:
            self.prediction = None if path is None else open_video(_closed(path))
        self.count = self.truth.count
        self.rate = rate if rate and isinstance(self.truth, VideoFolder) else self.truth.rate
        expected = f"{self.truth.width}x{self.truth.height}"
        for part in filter(None, (self.holes, self.prediction)):
            if part.count != self.count:
                raise InputError(f"{part.path}: has {part.count} frames, expected {self.count} as {pair.truth}")
            if (size := f"{part.width}x{part.height}") != expected:
                raise InputError(f"{part.path}: is {size}, expected {expected} as {pair.truth}")
        orders = {pair.masks: masks.order}
        if self.prediction is not None:
            orders[self.prediction.path] = check_numbers(self.prediction, self.truth, shift=1)
        self.remarks = [f"{path}: {order}" for path, order in orders.items() if order]

    def frames(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Truth (H, W, 3), mask (H, W) with 1 = missing, and prediction (H, W, 3) of every frame, uint8. Raises
        InputError if a part cannot be read to its end.
        """
        return zip(self.truth.frames(), self.holes.frames(), self.prediction.frames(), strict=False)


class Holes(VideoSource):
    """Masks, possibly inverted, as frames (H, W), uint8, 1 = missing. empty: no frame has a hole."""

    def __init__(self, source: MaskSource, *, inverted: bool):
        super().__init__(source.path)
        self.empty = source.rule.total == (source.rule.full if inverted else source.rule.empty)
        self.count, self.width, self.height = source.count, source.width, source.height
        self._source, self._inverted = source, inverted

    def fingerprint(self) -> str:
        """Changes with the content, and with the inversion."""
        return f"{self._source.fingerprint()} {self._inverted}"

    def check_unchanged(self) -> None:
        """As that of what it is made from."""
        self._source.check_unchanged()

    def _read(self, requested: range) -> Iterator[tuple[int, np.ndarray]]:
        for number, mask in zip(requested, self._source.frames(requested.start, requested.stop), strict=True):
            yield number, 1 - mask if self._inverted else mask

    def _files(self) -> Sequence[Path]:
        return [self.path]


def find_videos(
    truth: str | Path, predictions: str | Path | None, masks: str | Path | None = None, *, inverted: bool = False
) -> tuple[list[VideoPair], dict[str, str]]:
    """The videos that both sides have, and {name: what is wrong} for those that only one has. Nothing is opened yet.

    predictions: None if there are none yet; then the videos of `truth` that have masks are pairs without prediction.

    Raises InputError if a path does not exist or has none of the layouts, or if no video has a counterpart.
    """
    truth, predictions = Path(truth), None if predictions is None else Path(predictions)
    for path in (truth, predictions, masks):
        if path is not None and not Path(path).exists():
            raise InputError(f"{path}: no such file or folder")
    if masks is not None:
        return [VideoPair(name_of(truth), truth, Path(masks), predictions, inverted)], {}
    if truth.is_file():
        raise InputError(f"{truth}: is a file, expected --masks with its masks, or a folder with frames and masks")
    if _is_video(truth):
        name = name_of(truth)
        return [_pair(name, truth, None if predictions is None else _single(predictions, name), inverted)], {}
    return _several(truth, predictions, inverted)


def name_of(path: Path) -> str:
    """What a video or a set of them is called: as its folder, or as its file without suffix."""
    return video_name(path.resolve())


def _several(truth: Path, predictions: Path | None, inverted: bool) -> tuple[list[VideoPair], dict[str, str]]:
    sides = {"the truth": {entry.name: [entry] for entry in _entries(truth)
                           if entry.is_dir() and (predictions is not None or _is_video(entry))}}
    if not sides["the truth"]:
        raise InputError(f"{truth}: expected frame_0000_gt.png and frame_0000_mask.png, the folders frames and masks, "
                         "or a folder with either for each video")
    if predictions is not None:
        if predictions.is_file():
            raise InputError(f"{predictions}: is a file, expected a folder with a prediction for each video in {truth}")
        sides["the predictions"] = defaultdict(list)
        for entry in _entries(predictions):
            if entry.is_dir() or entry.suffix.lower() in io.VIDEO_SUFFIXES:
                sides["the predictions"][video_name(entry)].append(entry)
    matches, problems = match(sides, sorted(set().union(*sides.values()), key=natural_order))
    pairs = []
    for name, files in matches.items():
        try:
            folder, *prediction = (io.resolve_inside(root, file.name)
                                   for root, file in zip((truth, predictions), files, strict=False))
            pairs.append(_pair(name, folder, prediction[0] if prediction else None, inverted))
        except InputError as error:
            problems[name] = str(error)
    if not pairs:
        name, reason = next(iter(problems.items()))
        message = f"{truth}: no video to fill" if predictions is None else \
            f"{truth}, {predictions}: no video has a counterpart of its name"
        raise InputError(f"{message}; {name}: {reason}")
    return pairs, problems


def _pair(name: str, folder: Path, prediction: Path | None, inverted: bool) -> VideoPair:
    if not _is_video(folder):
        raise InputError(f"{folder}: has neither frame_0000_gt.png and its like nor the folder frames")
    if not (folder / "frames").is_dir():
        return VideoPair(name, folder, folder, prediction, inverted, devil=True)
    frames, masks = (io.resolve_inside(folder, part) for part in ("frames", "masks"))
    if not masks.is_dir():
        raise InputError(f"{folder}: has a folder frames but no folder masks beside it")
    return VideoPair(name, frames, masks, prediction, inverted)


def _is_video(folder: Path) -> bool:
    return (folder / "frames").is_dir() or bool(_keys(folder, "_gt"))


def _single(predictions: Path, name: str) -> Path:
    """The prediction of one video: `predictions` itself, or if that holds no picture, its entry of the video's name."""
    if predictions.is_file() or _pictures(predictions):
        return predictions
    candidates = [entry for entry in _entries(predictions) if video_name(entry) == name]
    if len(candidates) != 1:
        raise InputError(f"{predictions}: expected frames of {name} in it, or one folder or video file of that name")
    return io.resolve_inside(predictions, candidates[0].name)


def _closed(path: Path) -> Path:
    """The same path; raises InputError if it is a folder with a picture that is a link to elsewhere."""
    for name in _pictures(path) if path.is_dir() else ():
        io.resolve_inside(path, name)
    return path


def _same_names(truth: Path, truth_ending: str, counterpart: Path, ending: str):
    """Raises InputError unless every frame is there once in both folders."""
    sides = [(folder, end, Counter(_keys(folder, end)))
             for folder, end in ((truth, truth_ending), (counterpart, ending))]
    for (own_folder, end, keys), (other_folder, other_end, other_keys) in (sides, sides[::-1]):
        for key, count in keys.items():
            if count > 1:
                raise InputError(f"{own_folder}: has more than one {key}{end}, expected one of them")
        if missing := [key for key in keys if key not in other_keys]:
            raise InputError(f"{other_folder}: no {missing[0]}{other_end} to {own_folder}'s {missing[0]}{end}")


def _keys(folder: Path, ending: str) -> list[str]:
    """What comes before `ending` in the names of a folder's pictures that end so."""
    stems = [Path(name).stem for name in _pictures(folder)]
    return [stem.removesuffix(ending) for stem in stems if stem.endswith(ending)]


def _pictures(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if entry.suffix.lower() in io.SUFFIXES]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error
