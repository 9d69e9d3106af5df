"""Makes torchvision importable beside a CPU-only torch.

The Linux wheels of torchvision on the package index are built for CUDA. Beside a CPU build of torch their compiled
operators cannot be loaded, and `import torchvision` then fails while it describes `nms` and `qnms`. Nothing in this
project uses these operators, so declaring their names is enough for the Python parts (RAFT, Places365) to work.
"""
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def guard() -> None:
    """Installs an import hook that declares the operators just before torchvision is imported, whoever imports it."""
    if "torchvision" not in sys.modules and not any(isinstance(finder, _Guard) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Guard())


class _Guard(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == "torchvision" else None
        if spec is not None and spec.loader is not None:
            execute, folders = spec.loader.exec_module, spec.submodule_search_locations or ()

            def declare_first(module: ModuleType) -> None:
                declare_missing_operators(folders)
                execute(module)

            spec.loader.exec_module = declare_first  # type: ignore[method-assign]  # of this import alone: every spec has a loader of its own
        return spec


def declare_missing_operators(folders: Sequence[str]) -> None:
    """Declares torchvision's operators if the libraries in the folders of the package cannot be loaded."""
    import torch
    try:
        for library in [library for folder in folders for library in Path(folder).glob("_C*.so")]:
            torch.ops.load_library(str(library))
    except OSError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", _SCHEMA)
