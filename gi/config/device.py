"""The device to compute on."""
import torch

from gi.errors import InputError


def cuda_or_cpu(device: str | None) -> torch.device:
    """The device for scores, which need float64: `device` if given, else a CUDA GPU or the CPU. Raises InputError."""
    return find_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def find_device(device: str | torch.device) -> torch.device:
    """The device of this name; "auto" takes a CUDA GPU, else Apple's, else the CPU. Raises InputError if it is not
    usable.
    """
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        torch_device = torch.device(device)
        torch.empty(1, device=torch_device)
    except (RuntimeError, AssertionError) as error:  # builds without CUDA use assertions
        raise InputError(f"device {device}: not usable here: {str(error).splitlines()[0]}") from error
    return torch_device
