"""Internal learning against the authors' release: networks, losses, data, and steps of its training.

    GI_REFERENCE=DIR pytest tests/internal/test_reference.py

runs the same on the files of another folder. Of a network's file the name says the kind and the size
("internal_<kind>_<H>x<W>.npz"), and is the tag that its inputs are made from; its arrays say the size of the batch.
"""
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from gi.internal.mask_unet import MaskUNet
from gi.internal.networks import Base, CoarseToFine, Progressive, Stacked

HERE = Path(__file__).resolve().parents[1] / "reference"
FOLDER = Path(os.environ.get("GI_REFERENCE") or HERE)
NETWORKS = {  # kind: class, options, the file with the parameters' names
    "base": (Base, {}, "base"),
    "base_symmetric": (Base, {"padding": "symmetric"}, "base"),
    "base_reflect": (Base, {"padding": "reflect"}, "base"),
    "stacked": (Stacked, {}, "stacked"),
    "coarse_to_fine": (CoarseToFine, {}, "coarse_to_fine"),
    "progressive": (Progressive, {}, "progressive"),
    "mask_unet": (MaskUNet, {}, "mask_unet"),
}
FILES = {match[0]: (match[1], int(match[2]), int(match[3])) for path in sorted(FOLDER.glob("internal_*.npz"))
         if (match := re.fullmatch(r"internal_(\w+)_(\d+)x(\d+)", path.stem))}


def stored(name):
    path = FOLDER / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{FOLDER} has no {name}.npz")
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def weights(reference, network, prefix=""):
    spec = json.loads((HERE / "keys" / f"{network}.json").read_text())
    gain = reference.fill.GAIN[network]
    return {key.removeprefix(prefix): torch.from_numpy(reference.fill.weight(key, shape, gain))
            for key, shape in spec.items()}


def build(reference, kind):
    make, options, names = NETWORKS[kind]
    network = make(**options)
    network.load_state_dict(weights(reference, f"internal_{names}"))
    return network.eval()


def assert_as_stored(reference, output, expected, name, tolerance):
    output = np.asarray(output.detach())
    stats, sample = reference.fill.summary(output)
    assert np.abs(sample - expected[f"{name}_sample"]).max() < tolerance, name
    assert np.abs(stats - expected[f"{name}_stats"]).max() < tolerance, name
    if f"{name}_corner" in expected:
        assert np.abs(output[..., -8:, -8:] - expected[f"{name}_corner"]).max() < tolerance, name


@pytest.mark.parametrize("tag", [pytest.param(tag, marks=pytest.mark.slow if kind == "mask_unet" else ())
                                 for tag, (kind, *_) in FILES.items()])
@torch.no_grad()
def test_networks(tag, reference):
    kind, height, width = FILES[tag]
    expected, network = stored(tag), build(reference, kind)
    batch = next(len(value) for key, value in expected.items() if key.endswith("_sample"))

    def image(name):
        return torch.from_numpy(reference.fill.image(f"{tag}/{name}", batch, 3, height, width))

    if kind == "mask_unet":
        features = []
        network.conv10[1].register_forward_hook(lambda module, inputs, output: features.append(output[:, ::16]))
        outputs = {"probability": network(image("image"))}
        error = np.abs(features[0][..., ::4, ::4].numpy() - expected["features_sample"])
        assert error.max() < 3e-5 * expected["features_sample"].max()
    else:
        hole = torch.from_numpy(reference.fill.mask(f"{tag}/mask", batch, 1, height, width))
        prior = image("prior") if kind == "progressive" else None
        if height % 4 or width % 4:  # the release returns a larger picture; ours are padded before and cropped after
            outputs = network.stages(2 * image("image") - 1, hole)
            assert list(outputs[0].shape) == expected["shape"].tolist()
            assert network(image("image"), hole)[0].shape == (batch, 3, height, width)
        elif kind == "progressive":  # the release's second stage gets the prior
            x, prior = 2 * image("image") - 1, 2 * prior - 1
            outputs = [network.stages(x, hole, prior)[0], network.refine(prior * hole + x * (1 - hole))]
        else:
            outputs = [2 * output - 1 for output in network(image("image"), hole)]
        outputs = dict(zip(("coarse", "fine"), outputs, strict=False))
    assert {key.rpartition("_")[0] for key in expected if key.endswith("_sample")} - {"features"} == outputs.keys()
    for name, output in outputs.items():
        assert_as_stored(reference, output, expected, name, 3e-5 if kind == "mask_unet" else 2e-5)
