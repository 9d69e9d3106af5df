"""Two minutes of training, and their results in plain words."""
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gi.commands.arguments import parse_args
from gi.errors import InputError
from gi.metrics.metric import foremost, read_measures
from gi.report.page import Section
from gi.report.plots import read_curves
from gi.report.results import read_run
from gi.report.tables import Table
from gi.training.comparison import METHODS

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [str(ROOT / "gi" / "main.py"), "--base", str(ROOT / "configs" / "demo.yaml")]


def check(words: Sequence[str]) -> None:
    """Raises InputError unless `words` are a command line of training."""
    parse_args([*TRAIN[1:], *words])


def train(words: Sequence[str]) -> Path:
    """Trains and tests as configs/demo.yaml and `words` say, in a process of its own; returns the folder of the run.

    Raises SystemExit with its status if it fails.
    """
    args = parse_args([*TRAIN[1:], *words])
    before = set(args.logdir.glob("*/report.html"))
    if status := subprocess.run([sys.executable, *TRAIN, *words]).returncode:
        raise SystemExit(status)
    if args.resume is not None:
        return args.resume
    runs = [path.parent for path in args.logdir.glob("*/report.html") if path not in before]
    if len(runs) != 1:
        raise InputError(f"{args.logdir}: expected the report of one new run in it, found {len(runs)}")
    return runs[0]


def section(run: Path) -> Section:
    """The section about the run: a sentence, and a table for each test set."""
    results = read_run(run)
    methods, tables = {}, []
    for result in results:
        file = run / "metrics" / "comparison" / f"{result['set']}.json"
        methods[result["set"]] = json.loads(file.read_text(encoding="utf-8"))["methods"]
        measures = foremost(read_measures(result["measures"]))
        rows = [[METHODS[name], *(measure.text(scores.get(key)) for key, measure in measures.items())]
                for name, scores in methods[result["set"]].items()]
        tables.append(Table(["", *(measure.heading for measure in measures.values())], rows,
                            title=f"{result['set']}: {result['count']} images, mean ± std of composites"))
    text = sentence({name: scores["psnr_hole"]["mean"] for name, scores in methods["held_out"].items()},
                    results[0].get("step"))
    return Section("Trained here: photographs of 64x64 pixels", f"{text} Its own page: {run / 'report.html'}.", tables)


def sentence(psnr: Mapping[str, float], steps: int | None) -> str:
    """A verdict in plain words, from the PSNR in the hole by method."""
    def against(name: str) -> str:
        difference = psnr["keyframes"] - psnr[name]
        return f"{abs(difference):.1f} dB {'better' if difference > 0 else 'worse'} than {METHODS[name]}"

    learned = "has" if psnr["keyframes"] > psnr["no_keyframes"] + 1 else "has not yet"
    return (f"After {steps or 'so few'} steps this new network {learned} learned to take context from keyframes "
            f"({psnr['keyframes']:.1f} dB in the holes with them, {psnr['no_keyframes']:.1f} without), and is "
            f"{against('copy')}, {against('inpaint')}. This is the beginning of a training, not a result.")


def curves(run: Path) -> dict:
    """The loss and the validation's score over the steps."""
    logs = read_curves(run / "tensorboard")
    losses = {name.partition("/")[2]: curve for name, curve in logs.items() if name.startswith("train/")}
    names = [name for name in logs if name.startswith("val/") and name.endswith("/psnr_hole") and "/raw/" not in name]
    return {"training loss": losses,
            "validation: PSNR in the hole ↑": {name.split("/")[1]: logs[name] for name in names}}
