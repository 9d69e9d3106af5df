"""Runs checks, benchmarks and a small training on a GPU, within a given time.

    python -m tools.gpu --photographs DIR --out DIR
    python -m tools.gpu --photographs DIR --out DIR --tiny --device cpu

--out gets report.json, rewritten after every step, log.txt, and of a small training generator.safetensors, its
config.yaml and pictures. A step that fails is recorded and the others go on; steps for which there is too little time
are left out. Exit status 1 if a step failed or a check did not pass.
"""
import time

START = time.monotonic()  # before the libraries, as their import counts towards the time

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import gi  # noqa: E402, F401  before everything that imports torchvision

# isort: split
import torch  # noqa: E402

from gi.commands import script  # noqa: E402
from gi.config.device import find_device  # noqa: E402
from gi.errors import InputError  # noqa: E402
from gi.media.io import list_images  # noqa: E402
from tools.benchmark.report import cores  # noqa: E402
from tools.gpu import checks, settings  # noqa: E402
from tools.gpu.machine import record_machine  # noqa: E402
from tools.gpu.repurposed import time_repurposed  # noqa: E402
from tools.gpu.steps import Recorder, Step, Stopped  # noqa: E402
from tools.gpu.tests import run_tests  # noqa: E402
from tools.gpu.timings import Timings  # noqa: E402
from tools.gpu.training import train  # noqa: E402


def main(argv: list[str] | None = None, start: float | None = None) -> int:
    """Returns the exit status. start: when the program began, by `time.monotonic`; None for now."""
    parser = script.Parser(description=__doc__, formatter_class=script.Layout)
    parser.add_argument("--photographs", type=Path, required=True, help="folder with train/ and val/, or of pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--minutes", type=float, default=9.0, help="total time, imports included")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, cpu")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a dry run, also on a CPU")
    parser.add_argument("--precision", default="32-true", help="of the small training")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="run only steps whose names begin with one of these")
    args = parser.parse_args(argv)
    device = find_device(args.device)
    if device.type != "cuda" and not args.tiny:
        raise InputError("no CUDA device here; --tiny rehearses the run on a CPU")
    list_images(args.photographs)  # raises InputError for a folder without images
    sizes = (settings.tiny if args.tiny else settings.full)(settings.count_workers(cores()))
    recorder = Recorder(args.out, args.minutes, {**vars(sizes), "device": str(device)},
                        time.monotonic() if start is None else start)
    recorder.say("libraries are imported")
    with tempfile.TemporaryDirectory() as work:
        steps = plan(device, sizes, args, Path(work), recorder)
        chosen = [step for step in steps if not args.only or step.name.startswith(tuple(args.only))]
        if not chosen:
            known = ", ".join(step.name for step in steps)
            raise InputError(f"--only {' '.join(args.only)}: expected the beginning of {known}")
        try:
            recorder.run(chosen)
        except Stopped:
            return 143
    return verdict(recorder)


def plan(device: torch.device, sizes: settings.Sizes, args: argparse.Namespace, work: Path,
         recorder: Recorder) -> list[Step]:
    """All steps in their order: the most informative first, those that may take long last."""
    def check(function):
        return lambda result: function(device, sizes, result, recorder.say)

    def timing(function, *further):
        return lambda result: function(Timings(device, sizes, result, recorder.say), *further)

    def tests(result):
        run_tests(device, min(100 * slow, recorder.left), work, result, recorder.say)

    def training(result):
        train(device, sizes, args.photographs, work, args.out, result, recorder.say, args.precision,
              lambda: recorder.left - 25)  # for the last validation

    on_card = device.type == "cuda"
    slow = 1 if on_card else 4  # so that a dry run on a CPU completes
    steps = [
        Step("machine", lambda result: record_machine(device, result), 5, 60),
        Step("check generators", check(checks.check_generators), 10, 75),
        Step("check losses", check(checks.check_losses), 10, 30),
        Step("check flow", check(checks.check_flow), 10, 30),
        Step("check Fourier transforms", check(checks.check_fourier), 10, 20),
        Step("tests", tests, 20, 110),
        Step("time training steps", timing(Timings.training_steps), 20, 100),
        Step("time predictions", timing(Timings.predictions), 10, 40),
        Step("time video key targets", timing(Timings.video), 10, 25),
        Step("time internal learning", timing(Timings.internal), 10, 40),
        Step("time Stable Video Diffusion", check(time_repurposed), 30, 110),
        Step("time ours_big", timing(Timings.memory_of_ours_big), 15, 60),
        Step("time loading", timing(Timings.loading, args.photographs), 10, 40),
        Step("train", training, 45, sizes.training + 60),
        Step("time flow", timing(Timings.flow), 8, 20),
        Step("profile", timing(Timings.profile), 15, 40),
        Step("time compiled training steps", timing(Timings.compiled_steps), 40, 600),
    ]
    if not on_card and args.only is None:  # RAFT and compilation take minutes on a CPU, whatever the sizes
        steps = [step for step in steps if step.name not in ("time flow", "time compiled training steps")]
    return [dataclasses.replace(step, limit=slow * step.limit) for step in steps]


def verdict(recorder: Recorder) -> int:
    """Lists what failed and returns the exit status."""
    steps = recorder.report["steps"]
    failed = {name: step["status"] for name, step in steps.items() if step["status"] not in ("done", "skipped")}
    wrong = [f"{name}: {check}" for name, step in steps.items() if name.startswith("check")
             for check in checks.failures(step["result"])]
    tests = [name for name, test in steps.get("tests", {}).get("result", {}).get("tests", {}).items()
             if test["outcome"] in ("failure", "error")]
    recorder.report["summary"] = {"steps": failed, "checks": wrong, "tests": tests}
    for kind, names in (("step", failed), ("check", wrong), ("test", tests)):
        for name in names:
            recorder.say(f"{kind} did not pass: {name}")
    recorder.write()
    return int(bool(failed or wrong or tests))


if __name__ == "__main__":
    script.run(lambda: main(sys.argv[1:], START))
