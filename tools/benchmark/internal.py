"""Internal learning: a step of fitting a network to a video, and filling one frame, at the size of the videos."""
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import default_collate

from gi.internal.ambiguity import Ambiguity
from gi.internal.hidden import HiddenPixels
from gi.internal.networks import Base, CoarseToFine
from gi.internal.objective import TwoPhases, prepare
from gi.internal.reconstruction import Reconstruction
from gi.internal.shot import Shot
from gi.training.optimizer import adam
from tools.benchmark.parts import Parts
from tools.benchmark.timing import Result, run_laps

FRAMES = 8  # of the shot; the time of a step does not depend on it, the memory does


def internal(parts: Parts) -> Iterator[tuple[str, Result]]:
    """Cases for the base network and the coarse-to-fine one, with `settings.batch_size` frames a step, and for what the
    ambiguity loss adds to a step of one frame.
    """
    batch_size, (height, width) = parts.settings.batch_size, parts.settings.video
    random = np.random.default_rng(0)
    masks = np.zeros((FRAMES, height, width), np.uint8)
    masks[:, 3 * height // 8:5 * height // 8, 3 * width // 8:5 * width // 8] = 1
    shot = Shot(random.integers(0, 256, (FRAMES, height, width, 3), np.uint8), masks)
    samples = HiddenPixels(shot, length=batch_size)
    batch = default_collate([samples[i] for i in range(batch_size)])
    batch = {name: value.to(parts.device) for name, value in batch.items() if name != "name"}
    for kind in Base, CoarseToFine:
        network = kind().to(parts.device)
        objective = TwoPhases(terms={"reconstruction": Reconstruction()}).to(parts.device)
        optimizer = adam(network.parameters(), lr=2e-4, betas=(0.9, 0.999), scaled=False)

        def step(lap, network=network, objective=objective, optimizer=optimizer):
            with parts.autocast():
                data = prepare(batch, network, step=lap)
                stages = torch.stack(network(data["image"], data["hole"]))
            loss = sum(objective.generator(stages.float(), data).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        def fill(lap, network=network):
            with torch.inference_mode(), parts.autocast():
                data = prepare(batch, network, step=0)
                network(data["image"][:1], data["hole"][:1])

        for name, work, unit in ("step", step, "step"), ("fill", fill, "frame"):
            meter = parts.meter()
            run_laps((meter, work))
            note = f"{width}x{height}" + (f", batch {batch_size}" if name == "step" else "")
            yield f"internal/{name}/{kind.__name__}", meter.result(unit, notes=[note])
    term = Ambiguity(weights=None).to(parts.device)
    first = prepare({name: value[:1] for name, value in batch.items()}, network, step=0)

    def ambiguity(lap):
        predicted = first["image"].clone().requires_grad_()
        with parts.autocast():
            loss = term([predicted], first)
        loss.backward()

    meter = parts.meter()
    run_laps((meter, ambiguity))
    yield "internal/ambiguity", meter.result("frame", notes=[f"{width}x{height}", "VGG-19 untrained"])
