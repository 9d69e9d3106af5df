"""Turns requests of the page into command lines of jobs, and takes over their results.

A job is given links to the masks and keyframes as they are now, so that it can be resumed whatever is painted since.
"""
import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gi.app import example
from gi.app.folder import Folder, Problem
from gi.app.job import DONE, FAILED, MEASURE, Job
from gi.app.jobs import Queue
from gi.app.methods import METHODS, PROPAGATE, Methods, amount_of, checked
from gi.app.project import Project
from gi.app.projects import Projects, link, pictures_in
from gi.media import io
from gi.media.masks import DILATE, grow
from gi.media.scale import video_pixels
from gi.media.writer import is_file

VIEWS = (-10, 10)  # frames that help to fill a keyframe, as other views, where the video has them
MEASURED = 8  # frames of the example that are filled to see how long it takes


class Tasks:
    """Adds jobs to the queue, and takes their results into projects."""

    def __init__(self, folder: Folder, projects: Projects, queue: Queue, methods: Methods):
        self.folder, self.projects, self.queue, self.methods = folder, projects, queue, methods

    def run(self, project: Project, method: str, options: Any, views: Sequence[Path]) -> Job:
        """Fills the holes of a project, with all its keyframes; `views`: other views of a photo."""
        if method not in METHODS or project.kind not in METHODS[method].kinds:
            raise Problem(f"{method}: no such method for a {project.kind}")
        if why := self.methods.why_not(method):
            raise Problem(f"{METHODS[method].label}: {why}", 409)
        options = checked(options, METHODS[method].options)
        self.folder.expect_room(0)
        return self._photo(project, options, views) if method == "photo" else self._video(project, method, options)

    def _video(self, project, method, options):
        def prepare(folder: Path) -> tuple[list[str], str]:
            if project.masks is None and not (project.count == 1 and project.marks):
                raise Problem("there are no masks yet: propagate your mark to the whole video, or load masks", 409)
            for number, name in enumerate(project.frame_names()):
                link(project.mask(number) if project.masks else project.mark(number), folder / "masks" / f"{name}.png")
            words = ["inpaint-video", str(project.source), str(folder / "masks"),
                     str(folder / (result := result_name(project))), "--method", method]
            for number in sorted(project.keyframes):
                link(project.keyframe(number), folder / "keyframes" / f"{number:06d}.png")
                words += ["--keyframe", f"{number}={folder / 'keyframes' / f'{number:06d}.png'}"]
            words += project.rate_words
            words += ["--device", "auto", *(word for name, value in options.items()
                                            for word in (f"--{name.replace('_', '-')}", f"{value}"))]
            if method == "diffusion" and self.methods.diffusion is not None:
                words.append(f"checkpoint={self.methods.diffusion}")
            return [*words, "--progress", "json", "--preview", str(folder / "preview")], result

        return self._add("run", method, project, prepare, options=options,
                         about={"amount": amount_of(method, project, options)})

    def _photo(self, project, options, views):
        def prepare(folder: Path) -> tuple[list[str], str]:
            if project.marks != [0]:
                raise Problem("mark what is to be removed first", 409)
            link(project.mark(0), folder / "mask.png")
            words = ["inpaint", "--image", str(project.source), "--mask", str(folder / "mask.png")]
            for view in views:
                words += ["--keyframe", str(view)]
            words += ["--max-side", f"{options['max_side']}"] if "max_side" in options else []
            return [*words, "--out", str(folder / "filled.png")], "filled.png"

        for view in views:
            io.read_size(view)
        return self._add("run", "photo", project, prepare, options=options,
                         about={"amount": amount_of("photo", project, options)})

    def propagate(self, project: Project, method: str, options: Any) -> Job:
        """Carries the marks through the video."""
        if method not in PROPAGATE:
            raise Problem(f"{method}: no such way to propagate, expected {', '.join(PROPAGATE)}")
        options = checked(options, PROPAGATE[method][2])

        def prepare(folder: Path) -> tuple[list[str], str]:
            if not (marks := project.marks):
                raise Problem("mark the object on a frame first", 409)
            for number in marks:
                link(project.mark(number), folder / "marks" / f"{number:06d}.png")
            first, *more = ((number, folder / "marks" / f"{number:06d}.png") for number in marks)
            words = ["propagate-masks", str(project.source), str(first[1]), str(folder / "masks"), "--frame",
                     f"{first[0]}", "--method", method]
            for number, path in more:
                words += ["--mask", f"{number}={path}"]
            words += project.rate_words
            words += [f"{name}={value}" for name, value in options.items()]
            return [*words, "--progress", "json"], "masks"

        with project.inputs:
            return self._add("propagate", method, project, prepare, options=options,
                             about={"marks": marks_state(project)})

    def fill(self, project: Project, number: int) -> Job:
        """Adds a job that fills a frame by the photo inpainter; the result becomes a keyframe."""
        project.check(number)

        def prepare(folder: Path) -> tuple[list[str], str]:
            self._write_view(project, number, folder / "frame.png", folder / "frame_mask.png")
            words = ["inpaint", "--image", str(folder / "frame.png"), "--mask", str(folder / "frame_mask.png")]
            for view in (number + step for step in VIEWS if project.masks and 0 <= number + step < project.count):
                picture, mask = folder / f"view_{view:06d}.png", folder / f"view_{view:06d}_mask.png"
                self._write_view(project, view, picture, mask)
                words += ["--keyframe", str(picture), "--keyframe-mask", str(mask)]
            return [*words, "--out", str(folder / "filled.png")], "filled.png"

        return self._add("keyframe", "photo", project, prepare, about={"frame": number, "amount": 1.0})

    def _write_view(self, project: Project, number: int, picture: Path, mask: Path) -> None:
        """A frame, and its mask, grown as `inpaint-video` grows it."""
        marked = project.mask(number) if project.masks else project.mark(number)
        if not marked.is_file():
            raise Problem(f"mark the object on frame {number} first", 409)
        io.write_image(picture, self.projects.frame(project, number))
        with Image.open(marked, formats=("PNG",)) as image:
            missing = (np.asarray(image) > 127).astype(np.uint8)
        io.write_image(mask, 255 * grow(missing, round(video_pixels(DILATE, missing.shape))))

    def clicks(self, project: Project, frame: int, points: Any, carry: bool) -> Job:
        """Adds a job in which SAM 2 makes a mark from clicks on a frame, or with `carry` masks of all frames."""
        if why := self.methods.why_no_clicks():
            raise Problem(f"Clicks: {why}", 409)
        project.check(frame)
        if not (isinstance(points, list) and points and all(
                isinstance(point, list) and len(point) == 3 and all(isinstance(value, int | float) for value in point)
                and 0 <= point[0] < project.width and 0 <= point[1] < project.height for point in points)):
            raise Problem("points: expected [[x, y, 1 for the object or 0 for not], …] inside the picture")
        words = [str(project.source), "masks", "--sam2", str(self.methods.sam2), "--frame", f"{frame}"]
        words += project.rate_words
        words += ["--carry"] if carry else []
        words += [word for x, y, label in points for word in ("--point", f"{x:g},{y:g},{int(bool(label))}")]

        def prepare(folder: Path) -> tuple[list[str], str]:
            words[1] = str(folder / "masks")
            return words, "masks"

        return self._add("clicks", "sam2", project, prepare, module="gi.app.clicks",
                         about={"frame": frame, "carry": carry})

    def measure(self, video: Path, masks: Path) -> None:
        """Adds short jobs that show how long methods take here, for those that have not run yet."""
        known = {job.method for job in self.queue.oldest_first() if job.kind == MEASURE and job.state != FAILED}
        for method in (name for name, entry in METHODS.items() if entry.short and name not in known):
            if not self.methods.times(method):
                def prepare(folder: Path, method: str = method) -> tuple[list[str], str]:
                    return ["inpaint-video", str(video), str(masks), str(folder / "result.mp4"), "--method", method,
                            "--progress", "json"], "result.mp4"

                self._add(MEASURE, method, None, prepare,
                          about={"amount": MEASURED * example.WIDTH * example.HEIGHT / 1e6})

    def _add(self, kind: str, method: str, project: Project | None,
             prepare: Callable[[Path], tuple[list[str], str]], *, options: Mapping[str, Any] | None = None,
             module: str = "gi", about: Mapping[str, Any] | None = None) -> Job:
        if project is not None:
            project.check_source()
        folder = self.queue.new_folder()
        try:
            with project.inputs if project else contextlib.nullcontext():
                words, result = prepare(folder)
            job = Job(id=folder.name, kind=kind, method=method, project=project.id if project else None, words=words,
                      result=result, options=dict(options or {}), module=module, about=dict(about or {}))
            self.queue.add(job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if project is not None:
            self.projects.changed(project)
        return job

    def finish(self, job: Job) -> None:
        """Takes the result of a job that has come to its end into its project. Raises Problem if it cannot be used."""
        result = self.queue.folder(job) / job.result
        if job.kind in ("run", MEASURE, "keyframe"):
            self._keep_time(job)
        project = self.projects.projects.get(job.project or "")
        if project is None:
            return
        if job.kind == "propagate":
            with project.inputs:
                self.projects.put_masks(project, pictures_in(result), "propagated")
                project.masks["stale"] = marks_state(project) != job.about["marks"]
        elif job.kind == "clicks":
            masks, carried = pictures_in(result), job.about["carry"]
            clicked = masks[job.about["frame"] if carried else 0]
            self.projects.put_mark(project, job.about["frame"], clicked.read_bytes())
            if carried:
                self.projects.put_masks(project, masks, "clicks")
        elif job.kind == "keyframe":
            self.projects.put_keyframe(project, job.about["frame"], result, "filled")
        self.projects.changed(project)

    def _keep_time(self, job: Job) -> None:
        """Only for uninterrupted jobs: the time of a resumed one lacks what was done before."""
        if job.attempts == 1 and job.seconds > 0:
            start = min(job.stages.get("frames filled", 0.0), job.seconds)
            self.methods.keep_time(job.method, start=start, work=job.seconds - start, amount=job.about["amount"])


def marks_state(project: Project) -> dict[str, int]:
    """When each mark was made, which shows whether something was painted since."""
    return {f"{number}": project.mark(number).stat().st_mtime_ns for number in project.marks}


def result_name(project: Project) -> str:
    """Name of a result: in the format of the video where that can be written, else mp4."""
    suffix = project.source.suffix.lower() if project.source.is_file() else ""
    return f"filled{suffix}" if is_file(Path(f"x{suffix}")) else "filled.mp4"


def finished(job: Job, queue: Queue) -> Path:
    """The result of a job. Raises Problem before it is done."""
    path = queue.folder(job) / job.result
    if job.state != DONE or not path.is_file():
        raise Problem("this job has no result yet", 404)
    return path
