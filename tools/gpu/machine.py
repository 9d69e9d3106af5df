"""Records the machine of a run."""
import contextlib
import importlib.metadata
import platform
import shutil
import subprocess

import torch

from tools.benchmark.report import describe_machine

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "triton", "numpy", "opencv-python-headless", "omegaconf")


def record_machine(device: torch.device, result: dict) -> None:
    """Puts GPU, driver, versions and numerical settings into `result`. Initialises CUDA."""
    result |= describe_machine(device) | {"system": platform.platform(), "packages": _packages()}
    with contextlib.suppress(OSError):
        result["shared memory"] = shutil.disk_usage("/dev/shm").total
    result["settings"] = {
        "tf32 convolutions": torch.backends.cudnn.allow_tf32, "tf32 products": torch.backends.cuda.matmul.allow_tf32,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn.benchmark": torch.backends.cudnn.benchmark, "cudnn.deterministic": torch.backends.cudnn.deterministic,
    }
    if device.type != "cuda":
        return
    card = torch.cuda.get_device_properties(device)
    result |= {"capability": f"{card.major}.{card.minor}", "multiprocessors": card.multi_processor_count,
               "memory": card.total_memory, "cudnn": torch.backends.cudnn.version(),
               "bfloat16": torch.cuda.is_bf16_supported(), "architectures": torch.cuda.get_arch_list()}
    if shutil.which("nvidia-smi"):
        query = "name,driver_version,power.limit,clocks.max.sm,clocks.max.memory,temperature.gpu,memory.used"
        answer = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv"], capture_output=True, text=True,
                                timeout=20)
        result["nvidia-smi"] = answer.stdout.splitlines() or answer.stderr[:500]
    torch.ones(8, 8, device=device).mm(torch.ones(8, 8, device=device)).sum().item()


def _packages():
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions
