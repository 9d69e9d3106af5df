"""Pictures with their masks and keyframes, grouped by their names: `X.png`, `X_mask.png`, and for each keyframe
`X_src_000000.png` and, unless all of it is known, `X_src_000000_m.png`.
"""
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gi.errors import InputError
from gi.media import io

MASK = r"_mask\d*"  # at the end of a mask's name; with numbers in LaMa's sets


@dataclass
class SampleFiles:
    """Files of one picture; its name is the path of its image in the folder, without suffix.

    keyframes: (image, mask) each, in the order of their numbers; a mask of None says that all of the keyframe is known.
    problem: why the files cannot be used, if their names show it.
    """

    name: str
    image: Path
    mask: Path
    keyframes: list[tuple[Path, Path | None]] = field(default_factory=list)
    problem: str | None = None


def find_samples(folder: str | Path, exclude: str | Path | None = None) -> list[SampleFiles]:
    """`group_samples` of all images in a folder and those below it, but for those below the folder `exclude`."""
    skip = None if exclude is None else Path(exclude).resolve()
    entries = [entry for entry in io.list_images(folder)
               if skip is None or not (Path(folder) / entry).resolve().is_relative_to(skip)]
    return group_samples(folder, entries)


def group_samples(folder: str | Path, entries: Sequence[str]) -> list[SampleFiles]:
    """Images, given by their paths in `folder`, as samples in the order of their names; suffixes like .png may differ.

    What does not fit (masks and keyframes that are missing, doubled or left over) makes a sample with a problem.
    Raises InputError if there is no sample.
    """
    groups: dict[str, dict[str, list[Path]]] = {}  # name -> role ("", "mask", "0", "0_m", …) -> files
    for entry in entries:
        name, role = entry.removesuffix(Path(entry).suffix), ""
        if match := re.fullmatch(r"(.+)_src_(\d+)(_m)?", name):
            name, role = match[1], f"{int(match[2])}{match[3] or ''}"
        elif match := re.fullmatch(rf"(.+){MASK}", name):
            name, role = match[1], "mask"
        groups.setdefault(name, {}).setdefault(role, []).append(Path(folder, entry))
    if not groups:
        raise InputError(f"{folder}: no sample, expected X.png with X_mask.png and so on")
    return [_sample(name, roles, Path(folder, name)) for name, roles in sorted(groups.items())]


def _sample(name, roles, stem):
    numbers = sorted({int(role.removesuffix("_m")) for role in roles if role[:1].isdigit()})
    needed = {"": f"{stem}.png", "mask": f"{stem}_mask.png"}
    for number in range(max(numbers, default=-1) + 1):
        needed[str(number)] = f"{stem}_src_{number:06d}.png"
        if number not in numbers or str(number) not in roles:
            break
    beside = next(iter(roles.values()))[0].name
    problems = [f"{file}: no such file, expected beside {beside}" for role, file in needed.items() if role not in roles]
    problems += [f"{files[0]}: is there twice, as {files[1].name} too" for files in roles.values() if len(files) > 1]
    if problems:
        return SampleFiles(name, Path(f"{stem}.png"), Path(needed["mask"]), problem=problems[0])
    files = {role: paths[0] for role, paths in roles.items()}
    keyframes = [(files[str(number)], files.get(f"{number}_m")) for number in numbers]
    return SampleFiles(name, files[""], files["mask"], keyframes)
