import logging

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gi.data import datamodule, pairs, sources
from gi.data import geometry as geo
from gi.data.masks import CentralSquare, GrowthRamp
from gi.errors import InputError
from gi.media import io


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate([(90, 120), (120, 90), (300, 200), (64, 64), (114, 114)]):
        noise = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).astype(np.uint8)
        io.write_image(root / "sub" / f"{i}.png", cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
    return root


def _pairs(folder, **options):
    options = {"size": 64, "margin": 50, "n_sources": 2, **options}
    return pairs.GuidedPairs(images=sources.FolderTree(root=str(folder)), **options)


def _equal(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]


@pytest.mark.parametrize("n_sources", [0, 1, 3])
def test_sample(folder, n_sources):
    dataset = _pairs(folder, n_sources=n_sources)
    assert len(dataset) == 5
    for index in range(5):
        sample, maps = dataset.sample(2, index)
        shapes = {"image": (3, 64, 64), "mask": (1, 64, 64)}
        shapes |= {"sources": (n_sources, 3, 64, 64), "source_masks": (n_sources, 1, 64, 64)}
        for key, shape in shapes.items():
            assert sample[key].shape == shape and sample[key].dtype == torch.uint8 and sample[key].is_contiguous()
        assert set(sample["mask"].unique().tolist()) <= {0, 1}
        assert sample["name"] == f"sub/{index}.png"
        assert maps.shape == (1 + n_sources, 2, 64, 64) and maps.dtype == np.float32


def test_target_does_not_depend_on_the_number_of_keyframes(folder):
    few, many = _pairs(folder, n_sources=1)[4, 2], _pairs(folder, n_sources=3)[4, 2]
    assert torch.equal(few["image"], many["image"]) and torch.equal(few["mask"], many["mask"])
    assert torch.equal(few["sources"], many["sources"][:1])


def test_epoch_index_and_seed_decide(folder):
    dataset = _pairs(folder)
    _equal(dataset[0], dataset[0, 0])
    _equal(dataset[3, 1], _pairs(folder)[3, 1])
    for other in (dataset[4, 1], dataset[3, 2], _pairs(folder, seed=1)[3, 1]):
        assert not torch.equal(dataset[3, 1]["image"], other["image"])
    with pytest.raises(IndexError):
        dataset[5]


@pytest.mark.parametrize("workers, context", [
    (1, "fork"), (2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)])
def test_workers_do_not_matter(folder, workers, context):
    dataset = _pairs(folder)
    order = [[(1, 0), (1, 3)], [(1, 2), (1, 1)], [(2, 4)]]
    options = {"batch_sampler": order, "collate_fn": list, "multiprocessing_context": context}
    loader = DataLoader(dataset, num_workers=workers, worker_init_fn=datamodule._init_worker, **options)
    for keys, batch in zip(order, loader, strict=True):
        for key, sample in zip(keys, batch, strict=True):
            _equal(sample, dataset[key])


def test_frames_show_the_view_at_the_maps(folder):
    """The maps are those by which the frames were made: they agree where two frames show the same place."""
    dataset = _pairs(folder, n_sources=1, frame_photometric=pairs.Photometric(
        clahe_probability=0.0, brightness_probability=0.0, hsv_probability=0.0
    ))
    compared = 0
    for index in range(5):
        sample, maps = dataset.sample(7, index)
        places = [np.round(m).reshape(2, -1).astype(int) for m in maps]
        canvas = np.full((2, 114, 114, 3), -1)
        for frame, (x, y), drawn in zip([sample["image"], sample["sources"][0]], places, canvas, strict=True):
            drawn[y, x] = frame.permute(1, 2, 0).reshape(-1, 3).numpy()
        both = (canvas >= 0).all(axis=(0, 3))
        compared += both.sum()
        difference = np.abs(canvas[0] - canvas[1])[both]
        shuffled = np.abs(canvas[0][both] - np.roll(canvas[1][both], 40, axis=0))
        assert difference.mean() < 0.35 * shuffled.mean()
    assert compared > 2000


def test_without_distortion_frames_are_windows_of_the_photograph(folder):
    plain = pairs.Photometric(clahe_probability=0.0, brightness_probability=0.0, hsv_probability=0.0)
    dataset = _pairs(folder, flip=0.0, view_photometric=plain, frame_photometric=plain,
                     frame_geometry=geo.FrameGeometry(probability=0.0))
    sample, maps = dataset.sample(0, 4)  # 114 x 114: the view is the whole photograph
    photograph = io.read_image(folder / "sub" / "4.png")
    for frame, (x, y) in zip([sample["image"], *sample["sources"]], maps, strict=True):
        left, top = int(x[0, 0]), int(y[0, 0])
        np.testing.assert_array_equal(frame.permute(1, 2, 0), photograph[top : top + 64, left : left + 64])


def test_photographs_can_be_reduced_first(folder):
    plain = pairs.Photometric(clahe_probability=0.0, brightness_probability=0.0, hsv_probability=0.0)
    options = {"view_photometric": plain, "frame_photometric": plain, "size": 40, "margin": 0, "n_sources": 0,
               "flip": 0.0, "frame_geometry": geo.FrameGeometry(probability=0.0)}
    photograph = io.read_image(folder / "sub" / "2.png")  # 200 x 300
    sample, maps = _pairs(folder, short_side=40, **options).sample(0, 2)
    reduced = photograph.reshape(60, 5, 40, 5, 3).mean(axis=(1, 3))
    tops = [top for top in range(21)
            if np.abs(reduced[top:top + 40] - sample["image"].permute(1, 2, 0).numpy()).max() <= 1]
    assert len(tops) == 1 and maps.shape == (1, 2, 40, 40)
    as_it_is, never_enlarged = (_pairs(folder, short_side=side, **options)[2]["image"] for side in (None, 1000))
    assert torch.equal(as_it_is, never_enlarged)


@pytest.mark.parametrize("room", [10_000, 1_000_000])  # for one of the photographs, reduced, and for all
def test_photographs_are_kept_in_memory_as_they_were(folder, monkeypatch, room):
    read, names = io.read_image, []
    monkeypatch.setattr(io, "read_image", lambda path: names.append(path.name) or read(path))
    fresh, keeping = (_pairs(folder, short_side=40, size=40, margin=0, length=12, cache=cache) for cache in (0, room))
    expected = [fresh[i]["image"] for i in range(12)]
    assert len(names) == 12 and len(set(names)) == 5
    names.clear()
    assert all(torch.equal(keeping[i]["image"], image) for i, image in enumerate(expected))
    assert len(names) == len(set(names)) if room == 1_000_000 else 5 < len(names) <= 12


def test_flip_and_mirrored_padding(folder):
    plain = pairs.Photometric(clahe_probability=0.0, brightness_probability=0.0, hsv_probability=0.0)
    options = {"view_photometric": plain, "frame_photometric": plain, "size": 80, "margin": 0, "n_sources": 0}
    geometry = geo.FrameGeometry(probability=0.0)
    straight = _pairs(folder, flip=0.0, frame_geometry=geometry, **options)[3]["image"].permute(1, 2, 0).numpy()
    flipped = _pairs(folder, flip=1.0, frame_geometry=geometry, **options)[3]["image"].permute(1, 2, 0).numpy()
    photograph = io.read_image(folder / "sub" / "3.png")  # 64 x 64, so 8 on each side
    np.testing.assert_array_equal(straight, np.pad(photograph, ((8, 8), (8, 8), (0, 0)), mode="reflect"))
    np.testing.assert_array_equal(flipped, straight[:, ::-1])


def test_padding_beyond_the_size_of_a_photograph(folder):
    sample = _pairs(folder, size=256, margin=200)[3]  # 64 x 64 to 456 x 456
    assert sample["image"].shape == (3, 256, 256) and sample["image"].float().std() > 5


def test_length_goes_through_all_photographs(folder):
    dataset = _pairs(folder, length=3, n_sources=0)
    names = [dataset[epoch, index]["name"] for epoch in range(10) for index in range(3)]
    assert len(dataset) == 3
    for start in range(0, 30, 5):  # every pass has each photograph once
        assert len({name.partition("#")[0] for name in names[start : start + 5]}) == 5
    assert names[:5] != sorted(names[:5]) or names[5:10] != sorted(names[5:10])
    longer = _pairs(folder, length=12, n_sources=0)
    assert len({longer[3, index]["name"] for index in range(12)}) == 12


def test_growth_reaches_the_masks(folder):
    ramp = GrowthRamp(start=0.25, first_epoch=0, last_epoch=4)
    dataset = _pairs(folder, mask=CentralSquare(share=0.5), mask_growth=ramp)
    assert [int(dataset[epoch, 0]["mask"].sum()) for epoch in (0, 4, 9)] == [8 * 8, 32 * 32, 32 * 32]


@pytest.fixture
def damaged(tmp_path, folder):
    for name in ("a", "c", "e"):
        io.write_image(tmp_path / f"{name}.png", io.read_image(folder / "sub" / "2.png"))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    io.write_image(tmp_path / "d.png", np.zeros((40, 300, 3), np.uint8))
    return tmp_path


def test_bad_photographs_are_errors_that_name_them(damaged):
    dataset = _pairs(damaged)
    with pytest.raises(InputError, match=r"b\.png"):
        dataset[1]
    with pytest.raises(InputError, match=r"d\.png: 300x40 is too small"):
        dataset[3]


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_photographs_can_be_skipped(damaged, caplog, workers):
    dataset = _pairs(damaged, on_bad_image="skip")
    with caplog.at_level(logging.WARNING):
        names = [batch[0]["name"] for batch in DataLoader(dataset, num_workers=workers, collate_fn=list)]
    assert [name.partition("@")[0] for name in names] == ["a.png", "c.png", "c.png", "e.png", "e.png"]
    assert len(set(names)) == 5
    if not workers:
        assert "b.png" in caplog.text and "d.png" in caplog.text
    only_bad = pairs.GuidedPairs(images=sources.ImageSource(damaged, ["b.png"]), on_bad_image="skip")
    with pytest.raises(InputError, match="no readable photograph"):
        only_bad[0]


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"n_sources": -1}, {"length": 0}, {"flip": 2.0}, {"on_bad_image": "ignore"}, {"seed": -1},
                {"short_side": 0}, {"cache": -1}]
)
def test_impossible_numbers(folder, options):
    with pytest.raises(InputError, match=next(iter(options))):
        _pairs(folder, **options)


def test_file_list(tmp_path, folder):
    (tmp_path / "list.txt").write_text("sub/3.png\nsub/1.png\n")
    images = sources.FileList(list=str(tmp_path / "list.txt"), root=str(folder))
    assert [images.name(i) for i in range(len(images))] == ["sub/3.png", "sub/1.png"]
    assert io.read_image(images.path(1)).shape == (120, 90, 3)
    (folder / "escape.png").symlink_to("/etc/hostname")
    (tmp_path / "list.txt").write_text("escape.png")
    with pytest.raises(InputError, match="leads out"):
        sources.FileList(list=str(tmp_path / "list.txt"), root=str(folder)).path(0)
    (folder / "escape.png").unlink()


def test_places365(tmp_path, folder, monkeypatch):
    from torchvision.datasets import Places365

    with pytest.raises(InputError, match="not Places365"):
        sources.Places365(root=str(tmp_path))
    (tmp_path / "categories_places365.txt").write_text("/a/airfield 0\n/b/bakery/shop 1\n")
    with pytest.raises(InputError, match="corrupted"):  # torchvision compares checksums
        sources.Places365(root=str(tmp_path))
    monkeypatch.setattr(Places365, "_check_integrity", lambda self, file, md5, download: True)
    (tmp_path / "places365_train_standard.txt").write_text("/b/bakery/shop/1.jpg 1\n/a/airfield/2.jpg 0\n")
    with pytest.raises(InputError, match="data_large_standard"):
        sources.Places365(root=str(tmp_path))
    for name in ("b/bakery/shop/1.jpg", "a/airfield/2.jpg"):
        io.write_image(tmp_path / "data_large_standard" / name, io.read_image(folder / "sub" / "2.png"))
    images = sources.Places365(root=str(tmp_path))
    assert [images.name(i) for i in range(2)] == ["b/bakery/shop/1.jpg", "a/airfield/2.jpg"]
    assert pairs.GuidedPairs(images=images)[1]["name"] == "a/airfield/2.jpg"


def test_bundled_photographs():
    images = sources.BundledPhotographs(names=["coffee.png", "rocket.jpg"])
    assert io.read_image(images.path(0)).shape == (400, 600, 3) and images.name(1) == "rocket.jpg"
    for names in (["coffee.png", "tea.png"], [], ["../__init__.py"]):
        with pytest.raises(InputError):
            sources.BundledPhotographs(names=names)
