"""Frames held once, moved masks, and the samples made of them."""
import numpy as np
import pytest
import torch

from gi.data.masks import Strokes
from gi.data.sample import check_sample
from gi.errors import InputError
from gi.internal.data import InternalData
from gi.internal.hidden import HiddenPixels, Translations
from gi.internal.objective import prepare
from gi.internal.shot import Shot
from gi.media import io
from gi.media.crop import working_size
from tests.test_video_pipeline import scene

SIZE = 24, 40


@pytest.fixture
def shot():
    """Ten frames, whose numbers are their colours; a hole in every second one."""
    frames = np.arange(1, 11, dtype=np.uint8)[:, None, None, None] * np.ones((1, *SIZE, 3), np.uint8)
    masks = np.zeros((10, *SIZE), np.uint8)
    masks[::2, 5:9, 4:16] = 1
    return Shot(np.where(masks[..., None] > 0, 0, frames).astype(np.uint8), masks)


def samples(shot, count=200, **options):
    data = HiddenPixels(shot, length=count, **options)
    return [data[(0, i)] for i in range(count)]


def test_samples(shot):
    drawn = samples(shot)
    check_sample(drawn[0], "test")
    own = [int(sample["image"].max()) for sample in drawn]
    other = [int(sample["sources"].max()) for sample in drawn]
    assert set(own) == set(range(1, 11)) and set(other) == {1, 3, 5, 7, 9}  # only frames with a hole lend theirs
    assert all(sample["moved"].sum() == 48 for sample in drawn)  # cyclic
    assert len({tuple(sample["moved"].flatten().tolist()) for sample in drawn}) > 150
    again = HiddenPixels(shot, length=200)[(0, 7)]
    assert all(torch.equal(value, again[key]) for key, value in drawn[7].items() if key != "name")
    counts = np.array([sample["moved"].numpy()[0] for sample in samples(shot, 3000)]).sum(axis=0)
    assert counts.std() < 2 * np.sqrt(counts.mean())  # all places alike


def test_translation_of_a_batch(shot):
    shared = samples(shot, 8, translations=Translations(shared=True), batch_size=4)
    moved = [tuple(sample["moved"].flatten().tolist()) for sample in shared]
    assert len(set(moved[:4])) == 1 and len(set(moved[4:])) == 1 and moved[0] != moved[4]


def test_near_the_frames_own_hole(shot):
    """Centres in the band around the box of rows 5 to 8, columns 4 to 15 are five times as likely as others."""
    rng, translations = np.random.default_rng(0), Translations(factor=5, band=1 / 12)
    mask, centres = shot.masks[0], np.zeros(SIZE)
    for _ in range(4000):
        moved = np.argwhere(np.roll(mask, translations.draw(rng, mask, mask), axis=(0, 1)))
        if np.ptp(moved[:, 0]) == 3 and np.ptp(moved[:, 1]) == 11:  # not cut by the border
            top, left = moved.min(axis=0)
            centres[top + 2, left + 6] += 1
    near = np.zeros(SIZE, bool)
    near[3:11, 1:19] = True
    inner = np.zeros(SIZE, bool)
    inner[2:22, 6:34] = True
    ratio = centres[near & inner].mean() / centres[~near & inner].mean()
    assert ratio == pytest.approx(5, rel=0.15)


def test_free_form_holes(shot):
    drawn = samples(shot, 20, holes=Strokes())
    assert len({int(sample["moved"].sum()) for sample in drawn}) > 10


def test_batch_as_the_terms_see_it(shot):
    sample = samples(shot, 1)[0]
    batch = {key: value[None] for key, value in sample.items() if isinstance(value, torch.Tensor)}
    data = prepare(batch, None, step=3)
    assert torch.equal(data["hole"], torch.maximum(data["mask"], batch["moved"].float()))
    assert not (data["hidden"] * data["mask"]).any() and torch.equal(data["hidden"] + data["mask"], data["hole"])
    draws = [torch.rand(1, generator=prepare(batch, None, step=step, seed=seed)["random"]) for step, seed in
             ((3, 0), (3, 0), (4, 0), (3, 1))]
    assert draws[0] == draws[1] and len({float(draw) for draw in draws}) == 3


def test_reduced_frames_show_nothing_of_the_hole(tmp_path):
    frames, masks = (np.stack(part) for part in zip(*scene(4, 48, 64), strict=True))
    other = np.where(masks[..., None] > 0, 255 - frames, frames)
    shots = []
    for number, (pictures, budget, antialias) in enumerate(((frames, 2**30, True), (other, 0, True),
                                                            (frames, 0, False), (other, 2**30, False))):
        folder = tmp_path / str(number)
        folder.mkdir()
        shots.append(Shot.read(pictures, masks, count=4, size=(20, 28), folder=folder, budget=budget,
                               antialias=antialias))
        assert isinstance(shots[-1].frames, np.memmap) == (budget == 0)
    for a, b in (shots[:2], shots[2:]):
        assert np.array_equal(a.frames, b.frames) and np.array_equal(a.masks, b.masks)
    assert not np.array_equal(shots[0].frames, shots[2].frames)


def test_nothing_to_learn_from(shot):
    with pytest.raises(InputError, match="cover every frame wholly"):
        Shot(shot.frames, np.ones_like(shot.masks))
    masks = shot.masks.copy()
    masks[0] = 1
    assert 0 not in Shot(shot.frames, masks).known
    with pytest.raises(InputError, match="no hole to move"):
        HiddenPixels(Shot(shot.frames, 0 * shot.masks), length=1)


def test_video_as_data(tmp_path):
    for number, (frame, mask) in enumerate(scene(4, 48, 64)):
        io.write_image(tmp_path / "frames" / f"{number}.png", frame)
        io.write_image(tmp_path / "masks" / f"{number}.png", 255 * mask)
    data = InternalData(video=str(tmp_path / "frames"), masks=str(tmp_path / "masks"), max_side=32, batch_size=3)
    assert data.shot.size == (24, 32) and next(iter(data.train_dataloader()))["image"].shape == (3, 3, 24, 32)
    assert data.validation_names == data.test_names == ["hidden"]
    assert working_size((48, 64), max_side=None, resize=None) == (48, 64)
    assert working_size((48, 64), max_side=32, resize=[20, 10]) == (10, 20)
    with pytest.raises(InputError, match="resize"):
        working_size((48, 64), max_side=None, resize=[4, 4])
    with pytest.raises(InputError, match="translations: shared"):
        InternalData(video=str(tmp_path / "frames"), masks=str(tmp_path / "masks"),
                     translations=Translations(shared=True))
