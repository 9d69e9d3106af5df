"""A roofline model: the work of a path, the peak rates of the machine, and the least time that follows from both.

    with WorkCounter() as work:
        generator(*inputs)
    limits = measure_limits(device, torch.float32)
    bound(work.flops, work.bytes, limits)  # seconds

The bound is the larger of FLOPs over the rate of a large matrix product, and bytes over the bandwidth of a large copy.
It is a yardstick, not a strict limit: fast convolution algorithms need fewer operations than are counted, and bytes
that stay in a cache, or that fused operators never write, use no memory bandwidth.
"""
import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from tools.benchmark.device import synchronize

aten = torch.ops.aten
# These move no data; neither do views, which torch marks as such.
_FREE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "_reshape_alias")


class WorkCounter(TorchDispatchMode):
    """A context manager that counts the work of torch within it, forward and backward.

    Torch's FlopCounterMode has the same table, but tracks modules by hooks on gradients, which do not exist in
    inference.

    Attributes:
        flops: multiplications and additions of convolutions, matrix products, attention and Fourier transforms (5 N
            log2 N for N complex numbers, half of it for real ones). Not those of everything else: sampling,
            normalisation, elementwise.
        bytes: read and written by all operators if each has its inputs from memory and its outputs go there.
    """

    def __init__(self):
        super().__init__()
        self.flops = self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        formula = _FORMULAS.get(func.overloadpacket) or flop_registry.get(func.overloadpacket)
        if formula is None:
            with self:  # in inference, composite operators such as a linear layer are not decomposed
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        if not func.is_view and func.overloadpacket.__name__ not in _FREE:
            self.bytes += sum(map(_size, tree_leaves((args, kwargs, out))))
        return out


def _size(value: object) -> int:
    """Bytes of a tensor; of one that was expanded, those that exist."""
    if not isinstance(value, torch.Tensor):
        return 0
    return min(value.numel() * value.element_size(), value.untyped_storage().nbytes())


def _attention(query, key, value, *args, out_val=None, **kwargs) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_backward(gradient, query, key, value, *args, out_val=None, **kwargs) -> int:
    return 5 * sdpa_flop_count(query.shape, key.shape, value.shape) // 2  # five matrix products instead of two


def _fft_of_real(x, dims, *args, out_val=None, **kwargs) -> int:
    return _fft(x if x.is_floating_point() else out_val, dims) // 2


def _fft_of_complex(x, dims, *args, out_val=None, **kwargs) -> int:
    return _fft(x, dims)


def _fft(x, dims) -> int:
    transformed = math.prod(x.shape[dim] for dim in dims)
    return round(5 * x.numel() * math.log2(transformed)) if x.numel() else 0


# What torch's table lacks.
_FORMULAS = {
    aten._fft_r2c: _fft_of_real, aten._fft_c2r: _fft_of_real, aten._fft_c2c: _fft_of_complex,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


@dataclass
class Limits:
    """flops: per second, of a large matrix product. bandwidth: bytes per second read and written by a large copy."""

    flops: float
    bandwidth: float

    def best(self, other: "Limits") -> "Limits":
        """The higher rates of two measurements: other load on the machine can only lower them."""
        return Limits(max(self.flops, other.flops), max(self.bandwidth, other.bandwidth))


def measure_limits(device: torch.device, dtype: torch.dtype, *, side: int | None = None, copied: int | None = None,
                   repeats: int = 5) -> Limits:
    """The best of `repeats` products of matrices of `side` x `side`, and copies of `copied` bytes.

    On CUDA float32 products are TF32 where convolutions are (torch's default).
    """
    fast = device.type != "cpu"
    side, copied = side or (8192 if fast else 2048), copied or (1 << 30 if fast else 1 << 28)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    with _products_like_convolutions():
        seconds = _fastest(lambda: torch.mm(a, b, out=product), device, repeats)
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return Limits(2 * side**3 / seconds, 2 * copied / _fastest(lambda: target.copy_(source), device, repeats))


def bound(flops: float | None, moved: float | None, limits: Limits) -> float | None:
    """Seconds; None if nothing was counted."""
    if not flops and not moved:
        return None
    return max((flops or 0) / limits.flops, (moved or 0) / limits.bandwidth)


def _fastest(function, device, repeats) -> float:
    function()
    durations = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        durations.append(time.perf_counter() - start)
    return max(min(durations), 1e-9)


@contextlib.contextmanager
def _products_like_convolutions() -> Iterator[None]:
    products, before = torch.backends.cuda.matmul, torch.backends.cuda.matmul.fp32_precision
    products.fp32_precision = torch.backends.cudnn.conv.fp32_precision
    try:
        yield
    finally:
        products.fp32_precision = before
