"""The sizes of a run, and the networks of the configurations at these sizes."""
import inspect
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from gi.config import load_config
from gi.config.schema import find_target
from tools.benchmark.parts import Parts
from tools.benchmark.timing import Meter

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
_SHARED_BY_WORKER = 100 << 20  # bytes: two prefetched batches, and as many of a validation
FAMILIES = "ours", "ours_no_ffc", "transformer", "lama", "lama_spectralfuse"
# Parameters of the generators' constructors, by name, for small networks.
_TINY = {"ngf": 8, "heads": 4, "n_latents": 16, "latent_width": 32, "width": 32, "n_blocks": 2, "n_cross": 1}


@dataclass(frozen=True)
class Sizes:
    """Sizes of a run. Images are square, given by their side in pixels.

    Attributes:
        tiny: networks of a few channels.
        check: images in the comparisons of CPU and GPU.
        image, batch, batches, repeats: timings: of training steps, of predictions, and timed laps of each.
        workers: processes that load data.
        loading: seconds for which loading is timed.
        training: seconds of the small training; `train_size`, `train_batch` and `train_width` its images and network.
    """

    tiny: bool
    check: int
    image: int
    batch: int
    batches: tuple[int, ...]
    repeats: int
    video: tuple[int, int]
    workers: int
    loading: float
    training: float
    train_size: int
    train_batch: int
    train_width: int


def count_workers(cores: int) -> int:
    """One worker per core, if there is enough shared memory for their batches; containers often have 64 MB of it."""
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        return cores
    return min(cores, free // _SHARED_BY_WORKER)


def full(workers: int) -> Sizes:
    """Sizes for nine minutes on a large GPU with 16 CPU cores."""
    return Sizes(tiny=False, check=128, image=256, batch=8, batches=(1, 8), repeats=6, video=(240, 432),
                 workers=workers, loading=6, training=120, train_size=128, train_batch=32, train_width=24)


def tiny(workers: int) -> Sizes:
    """Sizes for a dry run of two minutes on a CPU."""
    return Sizes(tiny=True, check=64, image=64, batch=2, batches=(1, 2), repeats=1, video=(64, 112),
                 workers=min(workers, 1), loading=1, training=4, train_size=32, train_batch=2, train_width=4)


def network_config(name: str, sizes: Sizes, overrides: tuple[str, ...] = ()) -> DictConfig:
    """configs/NAME.yaml, with small networks if the sizes are tiny."""
    path = [CONFIGS / f"{name}.yaml"]
    small = []
    if sizes.tiny:
        offered = inspect.signature(find_target(load_config(path).model.params.generator.target, name)).parameters
        small = [f"model.params.generator.params.{key}={value}" for key, value in _TINY.items() if key in offered]
        small.append("model.params.discriminator.params.width=4")
        small.append("model.params.objective.params.terms.perceptual=null")  # a ResNet-50
        if "ZeroFlow" not in load_config(path).model.params.guidance.params.estimator.target:
            small.append("model.params.guidance.params.estimator.target=gi.flow.estimate.DIS")
    return load_config(path, [*small, *overrides])


class QuickParts(Parts):
    """Parts whose meters do not count operations unless `counting`: that takes another lap and breaks compiled graphs.
    """

    counting = False

    def meter(self, **options) -> Meter:
        return super().meter(**{"count": self.counting} | options)


def set_tf32(convolutions: bool, products: bool) -> None:
    """Sets whether float32 operations use TF32, with 10 bits of mantissa; torch's default is for convolutions only.

    Uses the older of torch's two interfaces, which sets both; some code of torch refuses to read the older after the
    newer was set.
    """
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products
