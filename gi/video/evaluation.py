"""From videos on disk to their scores, files and page: what scripts/evaluate_video.py does."""
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from gi.errors import InputError
from gi.metrics.folder import _place
from gi.metrics.video_folder import Clip, VideoPair
from gi.metrics.video_scores import METRICS, NEED_WEIGHTS, VideoScores
from gi.report.results import write_csv, write_json
from gi.report.video import Film, picture_name
from gi.weights.files import WeightsFile

CURVES = ("psnr_hole", "warp_error_hole", "pcons")  # scores that are shown frame by frame


def choose_metrics(names: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """The metrics to compute, and lines about those that are not: without `names`, all whose weights are there."""
    if names is not None:
        return [name for name in METRICS if name in names], []
    weights = _weights()
    absent = [network for network, about in weights.items() if _found(about) is None]
    lines = [f"{', '.join(name for name in METRICS if NEED_WEIGHTS.get(name) == network)}: no "
             f"{weights[network].path}; get {weights[network].origin}, and put it there" for network in absent]
    return [name for name in METRICS if NEED_WEIGHTS.get(name) not in absent], lines


def build_scores(names: Sequence[str], *, device: torch.device | str = "cpu") -> VideoScores:
    """VideoScores with weights that lie in the repository found from everywhere.

    Raises:
        InputError: if weights are missing, saying which metrics do without.
    """
    from gi.metrics import features, i3d  # here: they take a while to import

    weights, networks = _weights(), {}
    build: dict[str, Callable[[str], nn.Module]] = {
        "inception": lambda path: features.InceptionFeatures(weights=path),
        "lpips": lambda path: features.LPIPS(net="alex", weights=path),
        "i3d": lambda path: i3d.I3D(weights=path),
    }
    try:
        for network in dict.fromkeys(NEED_WEIGHTS[name] for name in names if name in NEED_WEIGHTS):
            networks[network] = build[network](_found(weights[network]) or weights[network].path)
    except InputError as error:
        free = " ".join(name for name in METRICS if name not in NEED_WEIGHTS)
        raise InputError(f"{error}; --metrics {free} needs no weights") from error
    return VideoScores(metrics=names, device=device, **networks)


def open_clips(pairs: Iterable[VideoPair]) -> tuple[list[Clip], dict[str, str]]:
    """The pairs whose parts fit together, and {name: what is wrong} for the others.

    Raises:
        InputError: if that is none of them.
    """
    clips, problems = [], {}
    for pair in pairs:
        try:
            clips.append(Clip(pair))
        except InputError as error:
            problems[pair.name] = str(error)
    if not clips:
        raise InputError(_first(problems))
    return clips, problems


def score_clips(
    clips: Sequence[Clip], scores: VideoScores, folder: str | Path, *, advance: Callable[[], None] = lambda: None,
    strict: bool = False,
) -> tuple[dict, dict[str, Film], dict[str, str]]:
    """What `VideoScores.compute` gives for all that can be read, {name: film} of these, whose pictures are written
    below `folder`, and {name: what is wrong} for the others. `advance` is called after every frame.

    Raises:
        InputError: if none can be read; with `strict`, if one cannot.
    """
    films, problems = {}, {}
    for number, clip in enumerate(clips):
        ticks = 0

        def counted(frames: Iterable) -> Iterator:
            nonlocal ticks
            for frame in frames:
                yield frame
                ticks += 1  # noqa: B023  used up before the next clip
                advance()

        try:
            film = Film(folder, picture_name(number, clip.name), clip.masks(), count=clip.count, rate=clip.rate)
            with contextlib.closing(film.watch(clip.frames())) as watched:
                scores.update(clip.name, counted(watched), count=clip.count)
            film.curves = {metric: scores.curves[metric] for metric in CURVES if metric in scores.curves}
            films[clip.name] = film
        except InputError as error:
            problems[clip.name] = str(error).removeprefix(f"{clip.name}: ")
            if strict:
                stop_at(problems)
        for _ in range(clip.count - ticks):
            advance()
    if not films:
        raise InputError(_first(problems))
    return scores.compute(), films, problems


def write_scores(folder: str | Path, result: Mapping):
    """`folder`/results.json with everything and results.csv with a row a video, each completely or not at all."""
    write_json(Path(folder) / "results.json", result)
    write_csv(Path(folder) / "results.csv", result["videos"])


def stop_at(problems: Mapping[str, str]):
    """Raises InputError with the first of them, if there is any."""
    for name, problem in problems.items():
        raise InputError(f"{name}: {problem}")


def _first(problems: Mapping[str, str]) -> str:
    more = f" ({len(problems) - 1} more videos have problems)" if len(problems) > 1 else ""
    return next(iter(problems.values())) + more


def _weights() -> dict[str, WeightsFile]:
    from gi.metrics.features import ALEXNET, INCEPTION
    from gi.metrics.i3d import RGB_IMAGENET
    return {"inception": INCEPTION, "lpips": ALEXNET, "i3d": RGB_IMAGENET}


def _found(about: WeightsFile) -> str | None:
    """Where a file with weights is: its place, in the repository too, or torch.hub's cache."""
    return next((str(path) for path in (Path(_place(about)), about.cached) if path.is_file()), None)
