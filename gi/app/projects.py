"""All projects of a working folder: made, changed and described; see gi/app/project.py for what one is."""
import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from PIL import Image

from gi.app import pictures
from gi.app.events import Events
from gi.app.folder import Folder, Problem, now
from gi.app.project import Project, stamp_of
from gi.app.proxies import proxy
from gi.errors import InputError
from gi.media import container, io
from gi.media.files import natural_order, open_video, parse_rate


class Projects:
    """All projects of a working folder."""

    def __init__(self, folder: Folder, events: Events, jobs_of: Callable[[str], list[str]]):
        self.folder, self.root, self.events, self.jobs_of = folder, folder.own / "projects", events, jobs_of
        self.reader = pictures.Reader()
        self.projects: dict[str, Project] = {}
        for file in self.root.glob("*/project.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
                project = Project(**{**json.loads(file.read_text(encoding="utf-8")), "folder": file.parent})
                inside = io.resolved(project.source).is_relative_to(folder.path)
                if project.id == file.parent.name and project.is_sound() and inside:
                    self.projects[project.id] = project

    def get(self, project_id: str) -> Project:
        """Raises Problem if there is none."""
        if project_id not in self.projects:
            raise Problem("there is no such project", 404)
        return self.projects[project_id]

    def newest_first(self) -> list[Project]:
        return sorted(list(self.projects.values()), key=lambda project: -project.created)

    def create(self, source: Path, *, upload: str | None = None, fps: str | None = None) -> Project:
        """Opens a video, folder of frames or photo. Raises Problem if it cannot be read."""
        if not source.resolve().is_relative_to(self.folder.path):
            raise Problem("this path leads out of the working folder", 403)
        self.folder.check_links(source)
        fps = fps or ("25" if source.is_dir() else None)
        facts: dict[str, Any]
        try:
            if source.is_file() and (size := _size_of_photo(source)):
                video, facts = None, {"kind": "photo", "width": size[0], "height": size[1], "count": 1, "fps": 0.0,
                                      "has_sound": False, "remarks": []}
            else:
                video = open_video(source, rate=parse_rate(fps))
                facts = {"kind": "video", "width": video.width, "height": video.height, "count": video.count,
                         "fps": float(video.rate), "has_sound": _has_sound(source),
                         "remarks": list(video.remarks)}
        except InputError as error:
            raise Problem(self.folder.shorten(str(error)), 415) from None
        self.folder.expect_room(20_000 * facts["count"])
        names = [file.stem for file in getattr(video, "files", ())]
        names = names if len(set(names)) == len(names) else []
        project = Project(id=token_hex(6), name=self._name(source, upload), source=source, upload=upload,
                          created=now(), fps_given=fps, names=names, stamp=stamp_of(source), **facts)
        project.folder = self.root / project.id
        for part in "proxies", "marks", "masks", "keyframes":
            (project.folder / part).mkdir(parents=True)
        self.projects[project.id] = project
        if video is not None:
            self.reader.keep(project.id, video)
        self.changed(project)
        return project

    @staticmethod
    def _name(source: Path, upload: str | None) -> str:
        """The name to show; for the pictures of an upload, whose folder is named by an id, that of the first one."""
        if upload is None or source.is_file():
            return source.name
        return min((item.name for item in source.iterdir() if item.name[0] != "."), key=natural_order)

    def delete(self, project: Project) -> None:
        """Deletes a project, and its upload if no other uses it."""
        with project.lock:
            del self.projects[project.id]
            shutil.rmtree(project.folder, ignore_errors=True)
        if project.upload and all(other.upload != project.upload for other in self.projects.values()):
            shutil.rmtree(self.folder.own / "uploads" / project.upload, ignore_errors=True)
        self.events.publish("project-removed", {"id": project.id})

    def changed(self, project: Project) -> None:
        """Saves a project and tells the pages. Raises Problem if it has been deleted meanwhile."""
        with project.lock:
            if self.projects.get(project.id) is not project:
                shutil.rmtree(project.folder, ignore_errors=True)  # files that were written since
                raise Problem("there is no such project", 404)
            project.version += 1
            with io.atomic_write(project.folder / "project.json") as temporary:
                temporary.write_text(json.dumps({**asdict(project), "folder": "", "source": str(project.source)}),
                                     encoding="utf-8")
        self.events.publish("project", self.describe(project))

    def proxies_made(self, project: Project, done: int | None, problem: str | None = None) -> None:
        """Records the progress of the proxies, unless the project has been deleted."""
        if self.projects.get(project.id) is not project:
            return
        project.proxies_done = project.proxies_done if done is None else done
        project.problem = problem and self.folder.shorten(problem)
        if done == project.count:
            self.reader.close()
            self.changed(project)
        else:
            self.events.publish("project", self.describe(project))

    def describe(self, project: Project) -> dict:
        """As the page gets it."""
        width, height = project.proxy_size
        return {"id": project.id, "kind": project.kind, "name": project.name, "width": project.width,
                "height": project.height, "count": project.count, "fps": round(project.fps, 3),
                "seconds": round(project.count / project.fps, 3) if project.fps else 0.0,
                "has_sound": project.has_sound, "proxy": {"width": width, "height": height},
                "proxies": {"done": project.proxies_done, "total": project.count, "problem": project.problem},
                "marks": project.marks, "masks": project.masks, "remarks": project.remarks,
                "keyframes": [{"n": number, "source": origin} for number, origin in sorted(project.keyframes.items())],
                "jobs": self.jobs_of(project.id), "created": project.created, "version": project.version}

    # Pictures --------------------------------------------------------------------------------------------------------

    def frame(self, project: Project, number: int, *, small: bool = False) -> np.ndarray:
        """A frame at its own size, uint8 (H, W, 3), or that of a video as small as its proxy."""
        project.check(number)
        if project.kind == "photo":
            project.check_source()
            return io.read_image(project.source)
        return self.reader.frame(project.open, project.id, number, small=small)

    def frame_jpeg(self, project: Project, number: int, side: int | None) -> Path | bytes:
        """The proxy of a frame, or where there is none yet, or a larger or smaller one is wanted, a JPEG made now."""
        project.check(number)
        place, target_side = proxy(project.proxies, number), side or pictures.SIDE
        if project.kind == "photo":
            project.check_source()
            if target_side > pictures.SIDE:
                return pictures.photo_jpeg(project.source, target_side)
            if not place.is_file():  # those of a video are made in the background
                with io.atomic_write(place) as temporary:
                    temporary.write_bytes(pictures.photo_jpeg(project.source, pictures.SIDE))
        if place.is_file() and target_side <= pictures.SIDE:
            return place if side is None or side >= max(project.proxy_size) else pictures.small_jpeg(place, side)
        return pictures.frame_jpeg(self.frame(project, number, small=target_side <= pictures.SIDE), target_side)

    def frame_png(self, project: Project, number: int) -> bytes:
        """A frame as it is, to be painted over."""
        return pictures.png(Image.fromarray(self.frame(project, number)))

    # Marks, masks, keyframes -----------------------------------------------------------------------------------------

    def put_mark(self, project: Project, number: int, data: bytes) -> None:
        """Takes a painted mark; it also replaces the mask of its frame. Raises Problem if it does not fit."""
        project.check(number)
        image = pictures.read_mark(data, [project.proxy_size, project.size])
        with project.inputs:
            first = not project.mark(number).is_file()
            with io.atomic_write(project.mark(number)) as temporary:
                image.save(temporary, format="PNG", compress_level=1)
            if project.masks is not None:
                if first and project.mask(number).is_file():
                    link(project.mask(number), project.carried(number))
                link(project.mark(number), project.mask(number))
                project.masks["stale"] = True
            self.changed(project)

    def delete_mark(self, project: Project, number: int) -> None:
        """Forgets what was painted on a frame; the mask that it replaced is back."""
        with project.inputs:
            project.mark(number).unlink(missing_ok=True)
            if project.masks is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.replace(project.carried(number), project.mask(number))
                project.masks["stale"] = True
            self.changed(project)

    def put_masks(self, project: Project, files: Iterable[Path], source: str) -> None:
        """Takes masks of all frames, PNG files of 0 and 255 in their order. Raises Problem if their number differs."""
        files = list(files)
        if len(files) != project.count:
            raise Problem(f"{len(files)} masks, expected {project.count}, one for each frame")
        with project.inputs:
            shutil.rmtree(project.folder / "carried", ignore_errors=True)
            marks = set(project.marks)
            for number, file in enumerate(files):
                link(file, project.carried(number) if number in marks else project.mask(number))
            for number in marks:
                link(project.mark(number), project.mask(number))
            project.masks = {"source": source, "stale": False}
            self.changed(project)

    def delete_masks(self, project: Project) -> None:
        """Forgets the masks; what was painted stays."""
        with project.inputs:
            shutil.rmtree(project.folder / "carried", ignore_errors=True)
            project.masks = None
            self.changed(project)

    def put_keyframe(self, project: Project, number: int, picture: Path, origin: str) -> None:
        """Takes an edited frame. Raises Problem if it is no picture, or not of the video's size."""
        project.check(number)
        try:
            if (size := io.read_size(picture)) != project.size:
                raise Problem(f"the keyframe is {size[0]}x{size[1]}, expected {project.width}x{project.height} as the "
                              "video")
            pixels = io.read_image(picture)
        except InputError as error:
            raise Problem(str(error).replace(str(picture), "the keyframe"), 415) from None
        with project.inputs:
            io.write_image(project.keyframe(number), pixels)
            project.keyframes[number] = origin
            self.changed(project)

    def delete_keyframe(self, project: Project, number: int) -> None:
        """Forgets an edited frame."""
        with project.inputs:
            project.keyframes.pop(number, None)
            project.keyframe(number).unlink(missing_ok=True)
            self.changed(project)


def link(source: Path, place: Path) -> None:
    """Puts a file at a second place: as a link where the file system can, else as a copy."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with io.atomic_write(place) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def pictures_in(folder: Path) -> list[Path]:
    """The PNG files of a folder in the order of their numbers."""
    return sorted(folder.glob("[!.]*.png"), key=lambda path: natural_order(path.name))


def _has_sound(path: Path) -> bool:
    if not path.is_file():
        return False
    with container.open_file(path) as file:
        return bool(file.streams.audio)


def _size_of_photo(path: Path) -> tuple[int, int] | None:
    try:
        return io.read_size(path)
    except InputError:
        if path.suffix.lower() in io.SUFFIXES:
            raise
        return None
