"""Evaluates videos on disk, or filled here, and writes scores and page: the work of `gi evaluate-video`."""
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from gi.errors import InputError
from gi.media.io import atomic_write, hidden_name
from gi.metrics.video_folder import Clip, VideoPair
from gi.metrics.video_scores import VideoScores
from gi.report.tables import Table
from gi.report.video import Film, picture_name
from gi.video.job import Progress, VideoJob
from gi.video.method import VideoMethod

CURVES = ("psnr_hole", "warp_error_hole", "pcons")  # scores that are shown frame by frame


def open_clips(pairs: Iterable[VideoPair], rate: Fraction | None = None) -> tuple[list[Clip], dict[str, str]]:
    """The pairs whose parts fit together, and {name: what is wrong} for the others. rate: see `Clip`."""
    clips, problems = [], {}
    for pair in pairs:
        try:
            clips.append(Clip(pair, rate))
        except InputError as error:
            problems[pair.name] = str(error)
    return clips, problems


def fill_video(pair: VideoPair, method: VideoMethod, out: Path) -> Iterator[Progress]:
    """Fills the holes of a pair's truth, whose content is not used, and writes the folder `out`.

    What an earlier call with the same method has finished is not computed again. Raises InputError if truth or masks
    cannot be read, or `out` is something else.
    """
    clip = Clip(replace(pair, prediction=None))
    job, finished = VideoJob(method, clip.truth, clip.holes, out), hidden_name(out, ".finished")
    if out.is_dir() and finished.is_file() and finished.read_text() == job.checksum:
        return
    yield from job.run()
    with atomic_write(finished) as temporary:
        temporary.write_text(job.checksum)


def only_common(filled: Mapping[str, tuple[list[Clip], dict[str, str]]]
                ) -> dict[str, tuple[list[Clip], dict[str, str]]]:
    """{method: (clips, problems)} with the clips that all methods have, except for methods that have none at all: means
    over different videos cannot be compared.
    """
    missing = {name: f"{method} has no result: {problem}" for method, (clips, problems) in filled.items() if clips
               for name, problem in problems.items()}
    return {method: ([clip for clip in clips if clip.name not in missing], {**missing, **problems})
            for method, (clips, problems) in filled.items()}


def side_by_side(tables: Mapping[str, Table]) -> Table:
    """A row a method from tables of one method each, whose rows are a measure and its score."""
    heading, *_ = ([row[0] for row in table.rows] for table in tables.values())
    return Table(["method", *heading], [[name, *(row[1] for row in table.rows)] for name, table in tables.items()])


def score_clips(
    clips: Sequence[Clip], scores: VideoScores, folder: str | Path, *, advance: Callable[[], None] = lambda: None,
    strict: bool = False,
) -> tuple[dict, dict[str, Film], dict[str, str]]:
    """What `VideoScores.compute` gives for all that can be read, {name: film} of these, whose pictures are written
    below `folder`, and {name: what is wrong} for the others. `advance` is called for every frame. Raises InputError if
    none can be read; with `strict`, if one cannot.
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
            film = Film(folder, picture_name(number, clip.name), clip.holes.frames(), count=clip.count, rate=clip.rate)
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
        stop_at(problems)
    return scores.compute(), films, problems


def stop_at(problems: Mapping[str, str]) -> None:
    """Raises InputError with the first of them, if there is any."""
    for name, problem in problems.items():
        raise InputError(f"{name}: {problem}")
