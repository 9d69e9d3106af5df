"""What a third party writes: an estimator of flow, a guidance, a data set; and what is said when it does not fit."""
import numpy as np
import pytest
import torch
from torch import nn

from gi import Inpainter
from gi.config import allow, check, load_config
from gi.data.datamodule import GuidedDataModule
from gi.data.mixture import Mixture
from gi.data.pairs import GuidedPairs
from gi.data.sample import check_sample
from gi.data.sources import BundledPhotographs
from gi.data.stereo import StereoPair
from gi.data.validation import GuidedFolder
from gi.errors import InputError
from gi.flow.estimate import Estimator, ZeroFlow
from gi.flow.guidance import FlowGuidance, Guidance
from gi.media.io import write_image
from gi.training.module import GuidedInpainting
from gi.video import VideoInpainter

allow(__name__)


class Shift(Estimator):
    """Everything moves by `x` pixels."""

    def __init__(self, *, x: float):
        super().__init__()
        self.x = x
        self.freeze()

    def forward(self, first, second):
        flow = torch.zeros(len(first), 2, *first.shape[-2:])
        flow[:, 0] = self.x
        return flow


class Fitting(nn.Module):
    """A network that is neither an estimator nor a guidance."""


class FromBatch(Guidance):
    """Takes its flow from the batch."""

    mask_images = True
    extra = ("motion", "absent")

    def forward(self, image, mask, sources, source_masks, motion=None, absent=None):
        assert absent is None
        flow = sources.new_zeros(*sources.shape[:2], 2, *sources.shape[-2:])
        return flow if motion is None else flow + motion[:, None, :, None, None], flow[:, :, :1]


def overrides(target, **params):
    node = "model.params.guidance.params.estimator"
    return [f"{node}.target={target}", *(f"{node}.params.{name}={value}" for name, value in params.items()),
            "model.params.guidance.params.resolution=null"]


def test_estimator_of_ones_own_fills_photographs_and_videos():
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3)).astype(np.uint8)
    mask = np.zeros((40, 64), bool)
    mask[10:20, 10:30] = True
    inpainter = Inpainter.from_checkpoint(device="cpu", max_side=64, overrides=overrides(f"{__name__}.Shift", x=3))
    result, details = inpainter(image, mask, [image], return_details=True)
    np.testing.assert_array_equal(result[~mask], image[~mask])
    np.testing.assert_allclose(details["flows"][0, 0], 3, atol=1e-4)
    np.testing.assert_allclose(details["flows"][0, 1], 0, atol=1e-4)

    # Nothing moves but the hole, so what it hides is copied from other frames.
    video = VideoInpainter.from_checkpoint(device="cpu", overrides=overrides(f"{__name__}.Shift", x=0))
    masks = [np.roll(mask, 4 * number, axis=1) for number in range(8)]
    for filled in video(iter([image] * 8), iter(masks)):
        np.testing.assert_allclose(filled.astype(int), image, atol=1)


def test_estimators_and_guidances_that_are_none_are_named():
    with pytest.raises(InputError, match=r"^estimator of FlowGuidance: Fitting is not derived from .*\.Estimator$"):
        FlowGuidance(estimator=Fitting())
    config = load_config(["configs/small/ours_small.yaml"], overrides(f"{__name__}.Fitting"))
    with pytest.raises(InputError, match=r"^model\.params\.guidance\.params\.estimator.*Fitting.*Estimator"):
        check(config)
    for make in (GuidedInpainting, Inpainter, VideoInpainter):
        with pytest.raises(InputError, match=r"^guidance: Fitting is not derived from .*Guidance$"):
            make(generator=nn.Identity(), guidance=Fitting())
    for make in (Inpainter, VideoInpainter):
        with pytest.raises(InputError, match=r"^guidance: sees what is in the holes"):
            make(generator=nn.Identity(), guidance=FlowGuidance(estimator=ZeroFlow()))


def test_flow_of_another_size_is_no_flow():
    class Small(Shift):
        def forward(self, first, second):
            return super().forward(first, second)[..., ::2, ::2]

    image, mask = torch.zeros(2, 3, 8, 16), torch.zeros(2, 1, 8, 16)
    with pytest.raises(InputError, match=r"^Small gave flow \(4, 2, 4, 8\), expected \(4, 2, 8, 16\)$"):
        FlowGuidance(estimator=Small(x=1), resolution=None)(image, mask, image[:, None], mask[:, None])
    frames, masks = np.zeros((3, 64, 64, 3), np.uint8), np.zeros((3, 64, 64), np.uint8)
    masks[:, 20:30, 20:30] = 1
    inpainter = VideoInpainter(generator=None, guidance=FlowGuidance(estimator=Small(x=1), mask_images=True,
                                                                        resolution=None))
    with pytest.raises(InputError, match=r"^Small gave flow \(2, 2, 32, 32\), expected \(2, 2, 64, 64\)$"):
        list(inpainter(frames, masks))



def test_guidance_of_ones_own_gets_what_it_asks_for():
    batch = {"image": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "mask": torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
             "sources": torch.zeros(2, 1, 3, 8, 8, dtype=torch.uint8), "name": ["a", "b"],
             "source_masks": torch.zeros(2, 1, 1, 8, 8, dtype=torch.uint8), "other": torch.ones(2)}
    module = GuidedInpainting(generator=nn.Identity(), guidance=FromBatch())
    assert not module.prepare(batch)["inputs"][2].any()
    flows = module.prepare(batch | {"motion": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})["inputs"][2]
    assert flows[:, 0, :, 4, 5].tolist() == [[1, 2], [3, 4]]


def pairs(n_sources, **options):
    images = BundledPhotographs(names=["coffee.png"])
    return GuidedPairs(images=images, n_sources=n_sources, size=32, margin=16, **options)


def folder(path):
    for name in ("image_0", "image_0_src_0"):
        write_image(path / f"{name}.png", np.full((20, 30, 3), 9, np.uint8))
    for name in ("image_0_mask", "image_0_src_0_m"):
        write_image(path / f"{name}.png", np.full((20, 30), 255, np.uint8))
    return GuidedFolder(root=str(path))


@pytest.mark.parametrize("make", [
    lambda _: pairs(2), lambda _: pairs(0, exact_flow=True), lambda _: pairs(2, exact_flow=True), folder,
    lambda _: StereoPair(size=32, length=1), lambda _: Mixture(parts={"a": pairs(1), "b": pairs(1)})])
def test_every_data_set_yields_samples(make, tmp_path):
    check_sample(make(tmp_path)[0], "set")


def sample(**changes):
    made = {"image": torch.zeros(3, 8, 9, dtype=torch.uint8), "mask": torch.ones(1, 8, 9, dtype=torch.uint8),
            "sources": torch.zeros(2, 3, 8, 9, dtype=torch.uint8), "name": "a", "more": 1,
            "source_masks": torch.zeros(2, 1, 8, 9, dtype=torch.uint8)} | changes
    return {key: value for key, value in made.items() if value is not None}


@pytest.mark.parametrize(("change", "message"), [
    ({"mask": None}, "a sample has no 'mask', only 'image', "),
    ({"image": torch.zeros(3, 8, 9)}, r"'image' is torch.float32 \(3, 8, 9\), expected torch.uint8 \(3, H, W\)$"),
    ({"image": np.zeros((3, 8, 9), np.uint8)}, r"'image' is ndarray, expected torch.uint8 \(3, H, W\)$"),
    ({"mask": torch.ones(8, 9, dtype=torch.uint8)}, r"'mask' is torch.uint8 \(8, 9\), expected .* with H = 8, W = 9$"),
    ({"mask": torch.full((1, 8, 9), 255, dtype=torch.uint8)}, "'mask' has values up to 255, expected 0 and 1$"),
    ({"sources": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, "'sources' is .* with T = 2, H = 8, W = 9$"),
    ({"source_masks": torch.zeros(1, 1, 8, 9, dtype=torch.uint8)}, "'source_masks' is .* with T = 2, H = 8, W = 9$"),
    ({"flows": torch.zeros(2, 2, 2, 8, 9, dtype=torch.float64)}, r"'flows' is .*, expected torch.float32 \(2, T, 2"),
    ({"name": 3}, "'name' is 3, expected a text$"),
])
def test_what_is_wrong_with_a_sample_is_said(change, message):
    check_sample(sample(), "data set 'own'")
    with pytest.raises(InputError, match=f"^data set 'own': {message}"):
        check_sample(sample(**change), "data set 'own'")


def test_samples_of_a_set_are_checked_as_they_come():
    data = GuidedDataModule(batch_size=1, test={"own": [sample(), sample(mask=sample()["mask"].float())]},
                            num_workers=0)
    batches = iter(data.test_dataloader()[0])
    next(batches)
    with pytest.raises(InputError, match="^data set 'own': 'mask' is torch.float32"):
        next(batches)
