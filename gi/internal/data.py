"""A video and its masks as the data of a training with Lightning."""
import tempfile
from pathlib import Path
from typing import Any

from gi.data.datamodule import GuidedDataModule
from gi.data.masks import MaskKind
from gi.errors import InputError, expect_at_least
from gi.internal.hidden import HiddenPixels, Translations
from gi.internal.shot import BUDGET, Shot
from gi.media.crop import working_size
from gi.media.files import open_video
from gi.media.masks import open_masks


class InternalData(GuidedDataModule):
    """Hidden known pixels of one video, to train on and, in fixed places, to score on: the set "hidden".

    Args:
        video, masks: see `gi.media.files.open_video` and `gi.media.masks.open_masks`; dilate: pixels, as there.
        max_side, resize: the working size: bounded, or (width, height); None and None: the video's own.
        batch_size: samples a batch and process.
        epoch: samples until the order is drawn anew; nothing else depends on it.
        scored: samples of the set "hidden".
        translations, holes, antialias, budget: see `HiddenPixels` and `Shot.read`.
    """

    def __init__(self, *, video: str, masks: str, dilate: int | None = None, max_side: int | None = 432,
                 resize: list[int] | None = None, batch_size: int = 1, epoch: int = 1000, scored: int = 32,
                 translations: Translations | None = None, holes: MaskKind | None = None, antialias: bool = True,
                 budget: int = BUDGET, num_workers: int = 0, seed: int = 0, pin_memory: bool = False):
        expect_at_least(1, batch_size=batch_size, epoch=epoch, scored=scored)
        if translations is not None and translations.shared:
            raise InputError("translations: shared is for samples in order; here batches are of shuffled ones")
        source = open_video(video)
        holes_of = open_masks(masks, source, dilate=dilate)
        self._folder = tempfile.TemporaryDirectory()  # for a shot above the budget
        self.shot = Shot.read(source.frames(), holes_of.frames(), count=source.count, budget=budget,
                              size=working_size((source.height, source.width), max_side=max_side, resize=resize),
                              folder=Path(self._folder.name), antialias=antialias)
        options: dict[str, Any] = {"translations": translations, "holes": holes}
        hidden = HiddenPixels(self.shot, length=scored, seed=seed + 1, **options)
        super().__init__(train=HiddenPixels(self.shot, length=epoch, seed=seed, batch_size=batch_size, **options),
                         validation={"hidden": hidden}, test={"hidden": hidden}, batch_size=batch_size,
                         num_workers=num_workers, seed=seed, pin_memory=pin_memory)
