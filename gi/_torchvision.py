"""Makes torchvision importable beside a CPU-only torch.

The Linux wheels of torchvision on the package index are built for CUDA. Beside a CPU build of torch their compiled
operators cannot be loaded, and `import torchvision` then fails while it describes `nms` and `qnms`. Nothing in this
project uses these operators, so declaring their names is enough for the Python parts (RAFT, Places365) to work.
"""
import importlib.util
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def declare_missing_operators():
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return
    try:
        for library in Path(spec.submodule_search_locations[0]).glob("_C*.so"):
            torch.ops.load_library(str(library))
    except OSError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", _SCHEMA)
