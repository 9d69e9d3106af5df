"""The timed paths, run as users run them. Every path yields its cases: (name, Result)."""
from collections.abc import Callable, Iterator

import cv2
import torch

from gi.compositing import masked
from gi.flow.estimate import DIS
from gi.media import io
from gi.metrics.features import LPIPS, InceptionFeatures
from gi.metrics.fid import frechet_distance
from gi.metrics.functional import IMAGE_METRICS
from gi.metrics.image import ImageMetrics
from gi.metrics.metric import choose
from gi.models.fold import prepare_for_inference
from gi.training.module import GuidedInpainting
from tools.benchmark.internal import internal
from tools.benchmark.parts import PHOTOGRAPH, QUALITY, Parts, trained_or_not
from tools.benchmark.timing import Result, ratios, run_laps
from tools.benchmark.training import train_step
from tools.benchmark.video import video, video_targets

Cases = Iterator[tuple[str, Result]]
KEYFRAMES = 0, 2, 4, 14  # of the prediction; 14 are the paper's for video


def data(parts: Parts) -> Cases:
    """Preparing a training sample of one target and two keyframes, and decoding its JPEG alone, each on one core."""
    pairs, count = parts.pairs(2), parts.settings.samples
    meters = [parts.meter(device=torch.device("cpu"), count=False) for _ in range(2)]
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)  # as in a worker of the loader
    cv2.setNumThreads(0)
    try:
        run_laps((meters[0], lambda lap: [io.read_image(parts.jpeg) for _ in range(count)]),
                 (meters[1], lambda lap: [pairs[i] for i in range(count)]))
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    note = f"one core, a JPEG of {PHOTOGRAPH[0]}x{PHOTOGRAPH[1]} at quality {QUALITY}"
    decode, sample = (meter.result("image", count, [note]) for meter in meters)
    sample.unit = "sample"
    sample.findings = {f"sample / decoding: {key}": value for key, value in ratios(sample, decode).items()}
    yield "data/decode", decode
    yield "data/sample", sample


def flow(parts: Parts) -> Cases:
    """The guidance of a target with two keyframes: flow in both directions, completed in the hole, and its errors."""
    batch = parts.batch(2)
    images = batch["image"].float() / 255, batch["mask"].float(), batch["sources"].float() / 255
    for name in "RAFT", "DIS":
        guidance, notes = parts.build("guidance", estimator={"target": f"gi.flow.estimate.{name}"})
        yield f"flow/{name}", _guide(parts, guidance.to(parts.device), images, batch["source_masks"].float(), notes)


def _guide(parts, guidance, images, source_masks, notes):
    meter = parts.meter(count=not isinstance(guidance.estimator, DIS))  # OpenCV's work cannot be counted
    run_laps((meter, lambda lap: guidance(*images, source_masks)))
    return meter.result("target", parts.settings.batch_size, ["two keyframes", *notes])


def predict(parts: Parts) -> Cases:
    """The generator alone, with 0 to 14 keyframes."""
    batch = parts.batch(max(KEYFRAMES))
    target = masked(batch["image"].float() / 255, batch["mask"].float())
    sources = masked(batch["sources"].float() / 255, batch["source_masks"].float())
    flows = 4 * torch.randn(*sources.shape[:2], 2, *sources.shape[-2:], device=parts.device)
    errors = flows.abs().mean(dim=2, keepdim=True)
    generator = prepare_for_inference(parts.generator)
    for count in KEYFRAMES:
        inputs = target, *(x[:, :count].contiguous() for x in (sources, flows, errors))
        meter = parts.meter()
        with torch.inference_mode(), parts.autocast():
            run_laps((meter, lambda lap, inputs=inputs: generator(*inputs)))
        yield f"predict/T={count}", meter.result("image", parts.settings.batch_size)


def evaluate(parts: Parts) -> Cases:
    """A test batch: flow, prediction and the configured metrics, features for FID included."""
    notes: list[str] = []
    guidance, untrained = parts.build("guidance")
    node = parts.model.get("metrics") or {}
    names = node.get("params", {}).get("metrics", ("ssim", "psnr", "l1"))
    builders = {"inception": InceptionFeatures, "lpips": LPIPS}
    needed = {metric.network.name for metric in choose(names, IMAGE_METRICS) if metric.network} & builders.keys()
    metrics = ImageMetrics(metrics=names, **{name: trained_or_not(builders[name], notes) for name in needed})
    metrics = metrics.to(parts.device)
    module = GuidedInpainting(generator=parts.generator, guidance=guidance.to(parts.device))
    batch, meter = parts.batch(parts.n_sources), parts.meter()
    generator = prepare_for_inference(parts.generator)

    def step(lap):
        data = module.prepare(batch)
        metrics.update(module.predict(data, generator), data["image"], data["mask"], batch["name"])

    with torch.inference_mode(), parts.autocast():
        run_laps((meter, step))
    scores = f"{parts.n_sources} keyframes, {', '.join(names)}"
    yield "evaluate", meter.result("image", parts.settings.batch_size, [scores, *untrained, *notes])


def fid(parts: Parts) -> Cases:
    """The Fréchet distance of two sets of features, without extracting them; it is computed on the CPU."""
    count, width = parts.settings.fid_images, InceptionFeatures.dimensions
    a, b = torch.randn(2, count, width, generator=torch.Generator().manual_seed(0)).unbind()
    meter = parts.meter(device=torch.device("cpu"), warmup=1, count=False)
    run_laps((meter, lambda lap: frechet_distance(a, b)))
    yield "fid", meter.result("distance", notes=[f"of {count} images and {count} others"])


PATHS: dict[str, Callable[[Parts], Cases]] = {
    "data": data, "flow": flow, "predict": predict, "train_step": train_step, "evaluate": evaluate, "fid": fid,
    "video": video, "video_targets": video_targets, "internal": internal,
}
