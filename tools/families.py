"""Trains small networks of every family with one budget and compares them (`configs/small`).

Each network has a folder: its run, and below `seeds` an evaluation for every seed of the test samples, that is of
crops, motions and holes. What is complete is not repeated; an interrupted run is resumed.
"""
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from gi.config import instantiate, load_config
from gi.errors import InputError
from gi.media.io import atomic_write
from gi.report.page import Report, Section, write_report
from gi.report.plots import plot_curves, read_curves
from gi.report.results import write_json
from gi.report.tables import Table, markdown_table
from gi.training.callbacks import format_duration
from gi.weights.export import export_generator
from gi.weights.unpickle import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "small"
SHARED = ("common", "unaligned", "unguided", "without_keyframes")
EXCLUDED = ("real_pairs",)  # continues a training on the user's own videos
START = "_start"  # suffix in the names of earlier stages, see `stages`
EXTRA = ("full_objective", "ours_small", "trusted_copy")  # for other questions; trained on request only
MEASURES = {"psnr_hole": ("PSNR", 2), "ssim_hole": ("SSIM", 3), "l1_hole": ("L1", 4)}  # in the hole
BASELINES = ("copy", "inpaint")


def families() -> list[str]:
    """Names of the configurations that describe a network."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem not in (*SHARED, *EXCLUDED)
                  and START not in path.stem)


def stages(name: str) -> list[Path]:
    """Configurations of a network's earlier trainings, in order: each begins with the weights of the one before."""
    return sorted(CONFIGS.glob(f"{name}{START}*.yaml"))


@dataclass(frozen=True)
class Budget:
    """What is the same for all families. None leaves a number to the configurations.

    `train` and `test` are folders of photographs, `count` samples a test set.
    """

    train: Path
    test: Path
    steps: int | None = None
    count: int | None = None
    seeds: int = 3


def named(network: str) -> tuple[str, int]:
    """A family and the seed of its weights, of "lama:1" or "lama" (which is 0). Raises InputError for anything else."""
    family, _, seed = network.partition(":")
    if family not in families() or not (seed or "0").isdecimal():
        raise InputError(f"{network}: expected FAMILY or FAMILY:SEED, with one of {', '.join(families())}")
    return family, int(seed or 0)


def own_folder(network: str, out: Path) -> Path:
    """The folder of a network's training and scores: `out`/lama for "lama", `out`/lama_1 for "lama:1"."""
    family, seed = named(network)
    return out / (f"{family}_{seed}" if seed else family)


def run_family(network: str, out: Path, budget: Budget) -> None:
    """Trains a network into its folder of `out` and evaluates it. Raises InputError if a step of it fails."""
    (family, seed), own = named(network), own_folder(network, out)
    options: tuple[object, ...] = ()
    for stage in [] if _last(find_run(own)) else stages(family):
        weights = own / f"{stage.stem}.safetensors"
        if not weights.is_file():
            run = _train(stage, own / stage.stem, budget, seed, *options)
            export_generator(stage, run / "checkpoints" / "last.ckpt", weights, half=False)
        options = "--resume_from_checkpoint", weights
    run = _train(CONFIGS / f"{family}.yaml", own, budget, seed, *options)
    score(own, run / "configs" / "config.yaml", run / "checkpoints" / "last.ckpt", budget)


def score(folder: Path, config: Path, weights: Path, budget: Budget, *options: str) -> None:
    """Evaluates weights with every seed into `folder`/seeds. Raises InputError if that fails."""
    sets = [name for name, node in load_config([config]).data.params.test.items() if node is not None]
    for seed in range(budget.seeds):
        if len(scores(folder, seed)) == len(sets):
            continue
        own = [f"data.params.test.{name}.params.seed={seed}" for name in sets]
        if budget.count is not None:
            own += [f"data.params.test.{name}.params.length={budget.count}" for name in sets]
        _main("--base", config, "--train", "false", "--resume_from_checkpoint", weights, "--logdir", folder / "seeds",
              "--name", f"seed{seed}", *options, *own)


def _train(config: Path, out: Path, budget: Budget, seed: int, *options: object) -> Path:
    """The run in `out`, begun or continued unless it is complete."""
    folder = find_run(out)
    if folder is None:
        _main("--base", config, "--logdir", out, "--name", config.stem, "--no_test", *options, *overrides(budget),
              f"seed={seed}")
    elif not _is_trained(folder):
        _main("-r", folder, "--no_test", *([] if _last(folder) else options))
    return find_run(out)


def gather(names: Sequence[str], out: Path) -> tuple[list[Table], list[tuple[str, str]], dict]:
    """Tables of all test sets, facts about each family, and learning curves, of the families trained so far.

    Also writes them to `out`: results.json, report.md, curves.svg, report.html.
    """
    trained = {name: run for name in names if (run := find_run(own_folder(name, out))) is not None}
    results = {name: {seed: scores(own_folder(name, out), seed) for seed in range(100)} for name in trained}
    by_set = tables(results)
    facts = [(name, _describe(folder)) for name, folder in trained.items()]
    curves: dict[str, dict] = {"training loss": {}}
    for name, folder in trained.items():
        for key, curve in read_curves(folder / "tensorboard").items():
            if key == "train/l1":
                curves["training loss"][name] = curve
            elif key.endswith("psnr_hole") and key.startswith("val/") and "/raw/" not in key:
                curves.setdefault(f"validation “{key.split('/')[1]}”: PSNR in the hole", {})[name] = curve
    write_json(out / "results.json", {name: {str(seed): sets for seed, sets in seeds.items() if sets}
                                      for name, seeds in results.items()})
    with atomic_write(out / "report.md") as temporary:
        temporary.write_text(markdown(by_set, facts), encoding="utf-8")
    with atomic_write(out / "curves.svg") as temporary:
        temporary.write_bytes(plot_curves(curves))
    write_report(out / "report.html", Report(
        title="Small networks of every family", facts=facts, curves=curves,
        sections=[Section(title=table.title, tables=[table]) for table in by_set]))
    return by_set, facts, curves


def tables(results: Mapping[str, Mapping[int, Mapping]]) -> list[Table]:
    """For each test set a table of {network: {seed: {set: {method: {measure: mean}}}}}, as `scores` returns them."""
    sets = dict.fromkeys(name for seeds in results.values() for sets in seeds.values() for name in sets)
    return [_table(set_name, {name: [sets[set_name] for sets in seeds.values() if set_name in sets]
                              for name, seeds in results.items()}) for set_name in sets]


def markdown(by_set: Sequence[Table], facts: Sequence[tuple[str, str]]) -> str:
    """The tables and facts as text."""
    lines = ["# Small networks of every family", ""] + [f"- {name}: {text}" for name, text in facts]
    for table in by_set:
        lines += ["", f"## {table.title}", "", *markdown_table(table), "", table.note]
    return "\n".join(lines) + "\n"


def find_run(folder: Path) -> Path | None:
    """The run in a family's folder; None before it has been started."""
    runs = sorted(path.parent.parent for path in folder.glob("*/configs/config.yaml"))
    return runs[-1] if runs else None


def _main(*words: object) -> None:
    """Runs gi/main.py in a separate process, so that no run affects the next."""
    status = subprocess.run([sys.executable, str(ROOT / "gi" / "main.py"), *map(str, words)], check=False).returncode
    if status:
        raise InputError(f"gi/main.py {' '.join(map(str, words[:4]))} …: ended with status {status}, see above")


def overrides(budget: Budget) -> list[str]:
    """The overrides of a configuration that apply the budget."""
    photographs = "params.images.params.root"
    options = [f"data.params.train.params.parts.large.{photographs}={budget.train.resolve()}",
               f"data.params.validation.large.{photographs}={budget.test.resolve()}"]
    return options + ([f"lightning.trainer.max_steps={budget.steps}"] if budget.steps is not None else [])


def _last(folder: Path | None) -> Path | None:
    """The last checkpoint of a run; None before the first: on resuming, initial weights have to be given again."""
    last = folder and folder / "checkpoints" / "last.ckpt"
    return last if last and last.is_file() else None


def _is_trained(folder: Path) -> bool:
    steps = load_config([folder / "configs" / "config.yaml"]).lightning.trainer.max_steps
    return (last := _last(folder)) is not None and read_checkpoint(last)["global_step"] >= steps


def scores(folder: Path, seed: int) -> dict[str, dict]:
    """{set: {method: {measure: mean}}} of the evaluation with a seed, of the sets that are complete."""
    sets = {}
    for path in sorted(folder.glob(f"seeds/*_seed{seed}/metrics/comparison/*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        sets[result["set"]] = {method: {key: math.nan if total[key]["mean"] is None else total[key]["mean"]
                                        for key in MEASURES} for method, total in result["methods"].items()}
    return sets


def _describe(folder: Path) -> str:
    config = load_config([folder / "configs" / "config.yaml"])
    generator = instantiate(OmegaConf.to_container(config.model.params.generator, resolve=True))
    parts = [f"{sum(p.numel() for p in generator.parameters()):,} parameters"]
    if (last := _last(folder)) is not None:
        content = read_checkpoint(last)
        parts.append(f"{content['global_step']:,} steps")
        seconds = [state["training_seconds"] for state in content.get("callbacks", {}).values()
                   if isinstance(state, Mapping) and "training_seconds" in state]
        parts += [f"trained {format_duration(seconds[0])}"] if seconds else []
    return ", ".join(parts)


def _table(set_name: str, families: Mapping[str, Sequence[Mapping]]) -> Table:
    """Means over seeds ± their standard deviation; baselines from the first family whose flow is estimated."""
    rows = {name: [scores["keyframes"] for scores in seeds] for name, seeds in families.items() if seeds}
    aligned = next((seeds for name, seeds in families.items() if seeds and name.startswith("ours")),
                   next(seeds for seeds in families.values() if seeds))
    rows |= {label: [scores[method] for scores in aligned]
             for method, label in zip(BASELINES, ("keyframe copied along the flow", "cv2.inpaint"), strict=True)}
    values = {name: [[scores[key] for scores in seeds] for key in MEASURES] for name, seeds in rows.items()}
    marks = {}
    for column, key in enumerate(MEASURES):
        means = [np.mean(value[column]) * (-1 if key == "l1_hole" else 1) for value in values.values()]
        if not all(map(math.isnan, means)):
            marks[int(np.nanargmax(means)), column + 1] = "best"
    text = [[name, *(f"{np.mean(v):.{digits}f} ± {np.std(v):.{digits}f}"
                     for v, (_, digits) in zip(value, MEASURES.values(), strict=True))]
            for name, value in values.items()]
    most = max(len(seeds) for seeds in rows.values())
    return Table(["", *(f"{label} in the hole" for label, _ in MEASURES.values())], text, marks,
                 title=f"Test set “{set_name}”",
                 note=f"Means of composites, ± their standard deviation over {most} draws of crops, motions and holes.")
