"""Compares the GPU's results with the CPU's: every kind of network, losses, SSIM, flow, Fourier transforms.

Each check runs on the CPU in float32, and on the GPU in float32 without and with TF32, and under autocast in 16 bits.
Errors are relative: the norm of the difference over the norm of the CPU's result, of all outputs together and of all
gradients together.
"""
import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gi.compositing import masked
from gi.flow.estimate import DIS, RAFT
from gi.flow.guidance import FlowGuidance
from gi.flow.warp import forward_backward_error, warp
from gi.losses.adversarial import AdversarialLoss
from gi.losses.discriminator import DiscriminatorLoss
from gi.losses.feature_matching import FeatureMatchingLoss
from gi.losses.l1 import L1Loss
from gi.losses.objective import Objective
from gi.losses.perceptual import PerceptualLoss
from gi.metrics.functional import ssim
from gi.models.discriminator import PatchDiscriminator
from gi.models.ffc import FFC, FourierUnit, from_spectrum, to_spectrum
from gi.models.fold import prepare_for_inference
from tools.benchmark.device import synchronize
from tools.benchmark.parts import Parts, Settings
from tools.gpu.settings import FAMILIES, Sizes, network_config, set_tf32


@dataclass(frozen=True)
class Mode:
    """A numerical precision. `output` and `gradient`: the largest relative errors accepted, chosen for deep networks.

    As by a gradient scaler, gradients are scaled by the first of `scales` that keeps them finite, since small ones
    would underflow.
    """

    tf32: bool
    autocast: torch.dtype | None
    output: float
    gradient: float
    scales: tuple[float, ...] = (1.0,)


MODES = {
    "float32": Mode(False, None, 1e-3, 1e-2),
    "tf32": Mode(True, None, 2e-2, 3e-1),  # its mantissa is as long as float16's
    "bfloat16": Mode(False, torch.bfloat16, 1e-1, 7e-1),
    "float16": Mode(False, torch.float16, 3e-2, 3e-1, scales=(4096.0, 64.0, 1.0)),
}
FLOAT32 = ("float32", "tf32")  # for code that disables autocast


class Checks:
    """`checks(name, ...)` runs a check, adds it to `result` and synchronises, so that errors belong to their check."""

    def __init__(self, device: torch.device, result: dict, say: Callable[[str], None]):
        self.device, self.result, self.say = device, result, say

    def __call__(self, name: str, network: nn.Module, inputs: tuple, *, call: Callable | None = None,
                 gradients: bool = False, modes: tuple[str, ...] = tuple(MODES),
                 tolerance: float | None = None) -> None:
        """Compares `call(network, *inputs)`, or network(*inputs): a tensor or several.

        gradients: also compares gradients of a random weighted sum of the outputs, with respect to the parameters and
        the inputs that require them. tolerance: for outputs, instead of the modes'.
        """
        call = call or (lambda network, *inputs: network(*inputs))
        entry = self.result[name] = {}
        expected = _compute(network, inputs, call, gradients)
        for mode in modes:
            try:
                with _mode(MODES[mode], self.device):
                    actual = _compute(copy.deepcopy(network).to(self.device), _to(inputs, self.device), call, gradients,
                                      MODES[mode].scales)
                entry[mode] = {key: _compare(actual[key], expected[key], tolerance if tolerance and key == "output"
                                             else getattr(MODES[mode], key)) for key in expected}
                synchronize(self.device)
            except Exception as error:
                entry[mode] = {"error": f"{type(error).__name__}: {str(error)[:500]}", "passed": False}
        self.say(f"  {name}: " + ", ".join(f"{mode} {_short(outcome)}" for mode, outcome in entry.items()))


def _compute(network, inputs, call, gradients, scales=(1.0,)):
    with torch.set_grad_enabled(gradients):
        outputs = call(network, *inputs)
        outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        results = {"output": torch.cat([output.detach().flatten().float().cpu() for output in outputs])}
        if gradients:
            random = torch.Generator().manual_seed(7)
            weights = [torch.randn(output.shape, generator=random).to(output.device) for output in outputs]
            total = sum((output.float() * weight).sum() for output, weight in zip(outputs, weights, strict=True))
            tensors = [tensor for tensor in (*network.parameters(), *inputs) if tensor.requires_grad]
            for scale in scales:
                grads = torch.autograd.grad(scale * total, tensors, allow_unused=True, retain_graph=scale != scales[-1])
                results["gradient"] = torch.cat([g.flatten().float().cpu() for g in grads if g is not None]) / scale
                if results["gradient"].isfinite().all():
                    break
    return results


def _compare(actual, expected, tolerance):
    difference = actual - expected
    error, scale = (torch.linalg.vector_norm(x, dtype=torch.float64).item() for x in (difference, expected))
    error = error / max(scale, 1e-30)
    return {"error": error, "largest": difference.abs().max().item(), "tolerance": tolerance,
            "passed": error <= tolerance}


def _short(outcome):
    if "error" in outcome:
        return outcome["error"]
    return " / ".join(f"{one['error']:.1e}{'' if one['passed'] else ' FAILED'}" for one in outcome.values())


@contextlib.contextmanager
def _mode(mode: Mode, device: torch.device) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    set_tf32(mode.tf32, mode.tf32)
    try:
        with contextlib.nullcontext() if mode.autocast is None else torch.autocast(device.type, mode.autocast):
            yield
    finally:
        set_tf32(*before)


def _to(inputs, device):
    return tuple(x.detach().to(device).requires_grad_(x.requires_grad) for x in inputs)


def failures(result: dict) -> list[str]:
    """"name, mode" of the checks in `result` that did not pass."""
    def passed(entry):
        return entry["passed"] if "passed" in entry else all(map(passed, entry.values()))

    return [f"{name}, {mode}" for name, modes in result.items() for mode, entry in modes.items() if not passed(entry)]


# The checks -----------------------------------------------------------------------------------------------------------

def frames(sizes: Sizes, number: int = 2, keyframes: int = 2) -> dict[str, Tensor]:
    """Training samples of a photograph, on the CPU: image, mask, sources, source_masks, as floats."""
    settings = Settings(config=network_config("ours", sizes), device=torch.device("cpu"), size=sizes.check)
    with Parts(settings) as parts:
        batch = parts.batch(keyframes, number)
    scaled = {"image": 255, "sources": 255, "mask": 1, "source_masks": 1}
    return {key: batch[key].float() / scale for key, scale in scaled.items()}


def generator_inputs(data: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Inputs of a generator: target, sources, random flows, flow errors."""
    random = torch.Generator().manual_seed(1)
    sources = masked(data["sources"], data["source_masks"])
    flows = 4 * torch.randn(*sources.shape[:2], 2, *sources.shape[-2:], generator=random)
    return masked(data["image"], data["mask"]), sources, flows, flows.abs().mean(dim=2, keepdim=True)


def check_generators(device: torch.device, sizes: Sizes, result: dict, say: Callable[[str], None]) -> None:
    """All families: as trained, with gradients, and prepared for inference."""
    checks, inputs = Checks(device, result, say), generator_inputs(frames(sizes))
    for name in FAMILIES:
        settings = Settings(config=network_config(name, sizes), device=torch.device("cpu"), size=sizes.check)
        with Parts(settings) as parts:
            generator = parts.generator
        checks(f"{name}: prediction", generator, inputs)
        checks(f"{name}: training", copy.deepcopy(generator).train(), inputs, gradients=True)
        # Compared with the unprepared network on the CPU, so that folding is checked as well.
        checks(f"{name}: prepared for inference", generator, inputs, call=_prepared(device))


def _prepared(device):
    def call(network, *inputs):
        on_card = inputs[0].device.type == device.type
        with torch.inference_mode():
            return (prepare_for_inference(network) if on_card else network)(*inputs)

    return call


def check_losses(device: torch.device, sizes: Sizes, result: dict, say: Callable[[str], None]) -> None:
    """Discriminator, all terms of the objective, R1, with gradients and untrained networks, and SSIM."""
    torch.manual_seed(0)
    checks, data = Checks(device, result, say), frames(sizes)
    image, mask = data["image"], data["mask"]
    prediction = (0.8 * image + 0.2 * image.flip(-1)).requires_grad_()
    discriminator = PatchDiscriminator(width=8 if sizes.tiny else 64)
    checks("discriminator", discriminator, (prediction,), gradients=True,
           call=lambda network, x: [network(x)[0], *network(x)[1]])
    terms = {"l1": L1Loss(missing=1.0), "adversarial": AdversarialLoss(), "feature_matching": FeatureMatchingLoss()}
    networks = nn.ModuleDict({"discriminator": discriminator, "objective": Objective(terms=terms)})

    def of_discriminator(networks, prediction, image, mask):
        batch = {"image": image, "mask": mask}
        return networks["objective"].discriminator(prediction, batch, networks["discriminator"])

    checks("losses of the generator", networks, (prediction, image, mask), gradients=True,
           call=lambda n, x, image, mask: n["objective"].generator(x, {"image": image, "mask": mask},
                                                                   n["discriminator"]).values())
    checks("losses of the discriminator, R1 included", networks, (prediction, image, mask), gradients=True,
           call=lambda *inputs: of_discriminator(*inputs).values())
    networks["objective"].discriminator = DiscriminatorLoss(r1=1.0)  # a weight at which the second derivatives matter
    checks("R1", networks, (prediction, image, mask), gradients=True, modes=FLOAT32,
           call=lambda *inputs: of_discriminator(*inputs)["discriminator_gradient_penalty"])
    side = 32 if sizes.tiny else sizes.check  # the ResNet-50 has no smaller variant
    small = prediction.detach()[..., :side, :side].requires_grad_(), image[..., :side, :side]
    checks("perceptual loss", PerceptualLoss(weights=None), small, gradients=True,
           call=lambda loss, prediction, image: loss(prediction, {"image": image}))
    checks("SSIM", nn.Identity(), (prediction.detach(), image), tolerance=1e-5, call=lambda _, *x: ssim(*x))


def check_flow(device: torch.device, sizes: Sizes, result: dict, say: Callable[[str], None]) -> None:
    """Untrained RAFT, guidance with each way to handle holes, warping and forward-backward errors."""
    torch.manual_seed(0)
    checks, data = Checks(device, result, say), frames(sizes)
    inputs = data["image"], data["mask"], data["sources"], data["source_masks"]
    raft = RAFT(weights=None, iterations=2 if sizes.tiny else 12)
    checks("RAFT", raft, (data["image"], data["sources"][:, 0]), modes=FLOAT32)
    checks("guidance: RAFT, holes filled as in the paper", FlowGuidance(estimator=raft, resolution=None), inputs,
           modes=FLOAT32)
    # DIS sees 8-bit images, so rounding alone may change its flow a little.
    checks("guidance: DIS, holes blind, planes", FlowGuidance(estimator=DIS(), resolution=None, mask_images=True,
                                                              planar=True), inputs, modes=FLOAT32, tolerance=2e-2)
    flows = generator_inputs(data)[2]
    pixels = data["image"].clone().requires_grad_()
    checks("warp", nn.Identity(), (pixels, flows[:, 0]), gradients=True, call=lambda _, *x: warp(*x))
    checks("forward-backward error", nn.Identity(), (flows[:, 0], flows[:, 1]), modes=FLOAT32,
           call=lambda _, *x: forward_backward_error(*x))


def check_fourier(device: torch.device, sizes: Sizes, result: dict, say: Callable[[str], None]) -> None:
    """Fourier transforms, also with odd or prime side lengths, and the unit and layer that use them."""
    torch.manual_seed(0)
    checks, channels = Checks(device, result, say), 8 if sizes.tiny else 64
    for height, width in (32, 32), (33, 47), (30, 54):
        x = torch.randn(2, channels, height, width, requires_grad=True)
        size = f"{width}x{height}"
        checks(f"spectrum {size}", nn.Identity(), (x,), gradients=True, modes=FLOAT32, tolerance=1e-5,
               call=lambda _, x: to_spectrum(x))
        checks(f"there and back {size}", nn.Identity(), (x,), gradients=True, tolerance=1e-5, modes=FLOAT32,
               call=lambda _, x: from_spectrum(to_spectrum(x), x))
        checks(f"FourierUnit {size}", FourierUnit(channels), (x,), gradients=True)
        checks(f"FFC {size}", FFC(channels=channels), (x,), gradients=True)
