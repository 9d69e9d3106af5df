"""A small training on photographs for a given time, run through gi/main.py."""
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch

from gi.main import main
from gi.report.plots import read_curves
from gi.weights.export import export_generator
from tools.gpu.settings import CONFIGS, Sizes

CONFIG = CONFIGS / "small" / "ours.yaml"
PROBED = 80  # steps of the probe that estimates how many fit into the time; more than there are prefetched batches
VALIDATIONS = 4
RESERVE = 0.1  # of the time, for validations


class StepTimes(pl.Callback):
    """Appends the time of every optimiser step to a file."""

    def __init__(self, *, path: str):
        self.path = Path(path)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{time.monotonic()}\n")


def train(device: torch.device, sizes: Sizes, photographs: Path, work: Path, out: Path, result: dict,
          say: Callable[[str], None], precision: str = "32-true", left: Callable[[], float] = lambda: 1e9) -> None:
    """Trains configs/small/ours.yaml, wider than there, in the folder `work`, and puts its generator into `out`.

    `photographs` has the folders train and val, or pictures that serve as both. `left` returns the seconds left, which
    limit the training. `result` gets the curves by name, as (steps, values), and scores.
    """
    train_root, val_root = (photographs / name if (photographs / name).is_dir() else photographs
                            for name in ("train", "val"))
    interval = _time_of_a_step(device, sizes, train_root, val_root, work, precision)
    seconds = min(sizes.training, left())
    steps = max(VALIDATIONS, int(seconds * (1 - RESERVE) / interval))
    result |= {"seconds a step": interval, "steps": steps, "precision": precision, "batch": sizes.train_batch,
               "size": sizes.train_size, "ngf": sizes.train_width,
               "photographs": "own for validation" if train_root != val_root else "the same for validation"}
    say(f"  {interval:.3f} s a step of {sizes.train_batch} samples: {steps} steps")
    start = time.monotonic()
    try:
        _main(device, sizes, train_root, val_root, precision, "--name=small", f"--logdir={work / 'logs'}",
              f"--max_steps={steps}", f"lightning.trainer.val_check_interval={max(1, steps // VALIDATIONS)}",
              f"lightning.callbacks.images.params.every_n_steps={10 * steps}",
              f"lightning.callbacks.last.params.every_n_steps={max(1, steps // (2 * VALIDATIONS))}",
              f"lightning.trainer.log_every_n_steps={max(1, steps // 100)}")
    finally:  # also for a training that was interrupted
        result["seconds"] = time.monotonic() - start
        runs = sorted((work / "logs").glob("*/configs/config.yaml"))
        if runs:
            _collect(runs[-1].parent.parent, out, result, say)


def _time_of_a_step(device, sizes, train_root, val_root, work, precision):
    """Seconds per step, measured in the second half of a short probe training."""
    times, steps = work / "times.txt", 4 if sizes.tiny else PROBED
    _main(device, sizes, train_root, val_root, precision, "--name=probe", f"--logdir={work / 'probe'}",
          f"--max_steps={steps}", "--limit_val_batches=0",
          f"lightning.callbacks.times.target={StepTimes.__module__}.StepTimes",
          f"lightning.callbacks.times.params.path={times}")
    ends = list(map(float, times.read_text().split()))
    # The mean, not the median: where loading is the bottleneck, only some steps wait for it, but long.
    ends = ends[len(ends) // 2 - 1:]
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def _main(device, sizes, train_root, val_root, precision, *options):
    data, size, margin = "data.params", sizes.train_size, round(sizes.train_size * 100 / 128)
    overrides = [
        f"model.params.generator.params.ngf={sizes.train_width}",
        f"model.params.base_lr={1e-3 / sizes.train_batch}",
        f"{data}.batch_size={sizes.train_batch}", f"{data}.num_workers={sizes.workers}",
        f"{data}.train.params.parts.large.params.images.params.root={train_root}",
        f"{data}.validation.large.params.images.params.root={val_root}",
        f"{data}.validation.large.params.length={4 if sizes.tiny else 64}",
        f"{data}.validation.small.params.length={4 if sizes.tiny else 64}",
    ]
    for part, share in ("large", margin), ("small", round(sizes.train_size * 16 / 128)):
        for place in f"train.params.parts.{part}", f"validation.{part}":
            overrides += [f"{data}.{place}.params.size={size}", f"{data}.{place}.params.margin={share}",
                          f"{data}.{place}.params.min_side=32"]
    trainer = [f"--accelerator={'gpu' if device.type == 'cuda' else device.type}", "--devices=1",
               f"--precision={precision}", "--enable_progress_bar=false", "--enable_model_summary=false"]
    main([f"--base={CONFIG}", f"--allow={__name__}", "--no-test", *trainer, *options, *overrides])


def _collect(folder, out, result, say):
    """Collects curves, the last pictures of validation, and the generator in 16 bits."""
    result["curves"] = {name: [list(steps), list(values)]
                        for name, (steps, values) in read_curves(folder / "tensorboard").items()}
    for name, (_, values) in result["curves"].items():
        if name == "train/l1" or name.endswith("psnr_hole"):
            say(f"  {name}: {values[0]:.3f} -> {values[-1]:.3f}")
    for set_name in "large", "small":
        pictures = sorted((folder / "images" / f"val_{set_name}").glob("*.png"))
        if pictures:
            shutil.copyfile(pictures[-1], out / f"validation_{set_name}.png")
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if checkpoint.is_file():
        config = folder / "configs" / "config.yaml"
        result["bytes of generator.safetensors"] = export_generator(config, checkpoint, out / "generator.safetensors")
        # The file's metadata describes the network only; the configuration describes the training.
        shutil.copyfile(config, out / "config.yaml")
