"""What the page offers: the methods that can run on this machine, their options, and how long they will take.

A method is an entry of `METHODS`; its times are taken from jobs of this machine, the first of which are short ones that
the page starts by itself (`measure` of gi/app/tasks.py).
"""
import importlib.util
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gi import resources
from gi.app.folder import Problem
from gi.app.project import Project
from gi.media import io

KEPT = 12  # times of each method
MINUTES = {"name": "minutes", "label": "Minutes to learn", "kind": "number", "default": 10, "min": 1, "max": 600,
           "step": 1}
STEPS = {"name": "steps", "label": "Steps of sampling", "kind": "number", "default": 25, "min": 1, "max": 1000,
         "step": 1}
SMALL_DIFFUSION = "checkpoints/ours_diffusion_small.safetensors"  # which may be bundled


def _side(default: int, most: int = 4096) -> dict:
    return {"name": "max_side", "label": "Work at (pixels of the longer side)", "kind": "number", "default": default,
            "min": 64, "max": most, "step": 8}


DILATE = {"name": "dilate", "label": "Grow the mask by (pixels)", "kind": "number",
          "default": None, "min": 0, "max": 200, "step": 1}


@dataclass(frozen=True)
class Method:
    """options: as the page shows them. short: whether `measure` may run it."""

    label: str
    description: str
    options: tuple[dict, ...]
    kinds: tuple[str, ...] = ("video",)
    short: bool = False


METHODS = {
    "flow": Method("Copy from other frames", "Copies what other frames show behind the object, along the optical flow. "
                   "Quick; what no frame shows is only smeared.", (_side(960), DILATE), short=True),
    "keyframes": Method("Keyframes and motion", "A network fills every 20th frame, yours guide it if you have edited "
                        "some; the others follow along the optical flow.", (_side(640), DILATE), short=True),
    "internal": Method("Learn from this video", "A network learns for some minutes what this video shows, then fills "
                       "each frame. For backgrounds that move or flicker.", (MINUTES, _side(216, 1024), DILATE)),
    "refine": Method("Copy, then choose", "Copies from other frames, learns the video as well, and takes for each "
                     "pixel what has proved better in this video.", (MINUTES, _side(960), DILATE)),
    "diffusion": Method("Generate", "A video diffusion model carries your keyframes through the video. Slow without a "
                        "large graphics card.", (STEPS, DILATE)),
    "photo": Method("Fill the picture", "A network fills the hole, with what your other views show behind the object.",
                    (_side(512, 2048),), kinds=("photo",)),
}
PROPAGATE = {
    "flow": ("Follow the motion", "Carries your marks along the optical flow: quick.", ()),
    "internal": ("Learn the object", "A network learns from your marks what is object in this video, for some minutes.",
                 ({**MINUTES, "default": 2},)),
    "both": ("Motion, then learn", "Along the flow first; a network then learns from that and repairs it.",
             ({**MINUTES, "default": 2},)),
}


class Methods:
    """times: the file that keeps how long jobs took. diffusion, sam2: folders or names of weights, None without."""

    def __init__(self, times: Path, *, diffusion: str | None = None, sam2: str | None = None):
        self._times, self.diffusion, self.sam2 = times, diffusion, sam2

    def why_not(self, name: str) -> str | None:
        """Why a method cannot run here, in a line; None if it can."""
        if name == "diffusion":
            if missing := _missing("diffusers", "transformers", "peft"):
                return f'needs {missing}: pip install ".[diffusion]" in a clone of gi'
            if self.diffusion is None and not resources.bundled(SMALL_DIFFUSION).is_file():
                return "needs weights: start the page with --diffusion CHECKPOINT"
        return None

    def why_no_clicks(self) -> str | None:
        """Why SAM 2 cannot run here, in a line; None if it can."""
        if missing := _missing("transformers"):
            return f'needs {missing}: pip install ".[diffusion]" in a clone of gi'
        return None if self.sam2 else "needs the weights of SAM 2: start the page with --sam2 FOLDER"

    def describe(self) -> dict:
        """As the page gets it: methods, ways to propagate, clicks."""
        methods = [{"name": name, "label": method.label, "description": method.description, "kinds": method.kinds,
                    "available": (why := self.why_not(name)) is None, "why_not": why, "options": method.options}
                   for name, method in METHODS.items()]
        propagate = [{"name": name, "label": label, "description": description, "options": options}
                     for name, (label, description, options) in PROPAGATE.items()]
        why = self.why_no_clicks()
        return {"methods": methods, "propagate": propagate, "clicks": {"available": why is None, "why_not": why}}

    # Times -----------------------------------------------------------------------------------------------------------

    def times(self, name: str) -> list[dict]:
        """[{"start", "work", "amount"}, …]: seconds until frames were filled, seconds of that, and how much it was."""
        try:
            kept = json.loads(self._times.read_text(encoding="utf-8")).get(name, [])
            keys = "start", "work", "amount"
            return [time for time in kept if all(isinstance(time[key], int | float) for key in keys)]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return []

    def keep_time(self, name: str, *, start: float, work: float, amount: float) -> None:
        """Records how long a job took that ran from start to end without interruption."""
        kept = {method: self.times(method) for method in METHODS}
        kept[name] = [*kept[name], {"start": start, "work": work, "amount": amount}][-KEPT:]
        with io.atomic_write(self._times) as temporary:
            temporary.write_text(json.dumps(kept), encoding="utf-8")

    def estimate(self, name: str, project: Project, options: Mapping[str, Any]) -> dict:
        """{"seconds", "how"} of a job with a project; options: by their names, those not given have their defaults."""
        if project.kind not in METHODS[name].kinds:
            return {"seconds": None, "how": f"is not for a {project.kind}"}
        times, amount = self.times(name), amount_of(name, project, options)
        if MINUTES in METHODS[name].options:
            minutes = float(str(options.get("minutes") or MINUTES["default"]))
            filling = statistics.median(time["work"] / time["amount"] for time in times) * amount if times else 0
            remark = "filling as in earlier jobs here" if times else "and a while to fill the frames"
            return {"seconds": round(60 * minutes + filling), "how": f"the {minutes:g} minutes you allow, {remark}"}
        if not times:
            return {"seconds": None, "how": "not measured on this machine yet"}
        seconds = statistics.median(time["start"] for time in times) + amount * statistics.median(
            time["work"] / time["amount"] for time in times)
        count = f"{len(times)} earlier jobs" if len(times) > 1 else "one earlier job"
        return {"seconds": math.ceil(seconds), "how": f"from {count} on this machine, by frames and size"}


def amount_of(name: str, project: Project, options: Mapping[str, Any]) -> float:
    """What the time of a job grows with: megapixels of all frames at the working size; of diffusion, whose size is the
    network's, frames and steps; of photos, one.
    """
    if name == "photo":
        return 1.0
    if name == "diffusion":
        return project.count * float(options.get("steps") or _default(name, "steps")) / _default(name, "steps")
    side = max(project.size)
    scale = min(1.0, float(options.get("max_side") or _default(name, "max_side") or side) / side)
    return project.count * project.width * project.height * scale**2 / 1e6


def checked(options: Mapping[str, Any] | None, known: tuple[dict, ...]) -> dict[str, int | float]:
    """Options of a request that are given, as numbers in their ranges, with defaults. Raises Problem for others."""
    options = options or {}
    if not isinstance(options, Mapping):
        raise Problem("options: expected names and numbers")
    numbers = {}
    for option in known:
        name, value = option["name"], options.get(option["name"], option["default"])
        if value in (None, ""):
            continue
        try:
            number = float(value) if not isinstance(value, bool) else math.nan
        except (TypeError, ValueError):
            number = math.nan
        if not option["min"] <= number <= option["max"]:
            raise Problem(f"{option['label']}: expected a number from {option['min']} to {option['max']}")
        numbers[name] = int(number) if number == int(number) else number
    if unknown := set(options) - {option["name"] for option in known}:
        raise Problem(f"{', '.join(sorted(map(str, unknown)))}: no such option")
    return numbers


def _default(name: str, option: str) -> Any:
    return next((known["default"] for known in METHODS[name].options if known["name"] == option), None)


def _missing(*packages: str) -> str:
    return " and ".join(name for name in packages if importlib.util.find_spec(name) is None)
