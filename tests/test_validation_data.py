import numpy as np
import pytest
import torch

from gi.data.datamodule import collate
from gi.data.validation import GuidedFolder
from gi.errors import InputError
from gi.media import io


@pytest.fixture
def folder(tmp_path):
    """Two samples; the grey level of a file tells which it is: 100 * sample + 10 * (keyframe + 1)."""
    for sample in range(2):
        stem = tmp_path / f"image_{sample:06d}"
        _image(f"{stem}.png", 100 * sample)
        _mask(f"{stem}_mask.png", sample)
        for keyframe in range(4):
            _image(f"{stem}_src_{keyframe:06d}.png", 100 * sample + 10 * (keyframe + 1))
            _mask(f"{stem}_src_{keyframe:06d}_m.png", 10 * sample + keyframe + 1)
    return tmp_path


def _image(path, level, shape=(16, 24)):
    io.write_image(path, np.full((*shape, 3), level, np.uint8))


def _mask(path, rows, shape=(16, 24)):
    mask = np.zeros(shape, np.uint8)
    mask[:rows] = 140  # grey: at least half of the range is missing
    mask[rows:] = 110
    io.write_image(path, mask)


@pytest.mark.parametrize("n_sources, count", [(None, 4), (4, 4), (2, 2), (0, 0)])
def test_reads_the_original_layout(folder, n_sources, count):
    dataset = GuidedFolder(root=str(folder), n_sources=n_sources)
    assert len(dataset) == 2
    for index in range(2):
        sample = dataset[index]
        assert sample["name"] == f"{index:06d}"
        assert sample["image"].shape == (3, 16, 24) and sample["mask"].shape == (1, 16, 24)
        assert sample["sources"].shape == (count, 3, 16, 24) and sample["source_masks"].shape == (count, 1, 16, 24)
        assert all(value.dtype == torch.uint8 for value in sample.values() if isinstance(value, torch.Tensor))
        assert (sample["image"] == 100 * index).all() and sample["mask"].sum() == 24 * index
        for keyframe in range(count):
            assert (sample["sources"][keyframe] == 100 * index + 10 * (keyframe + 1)).all()
            assert sample["source_masks"][keyframe].sum() == 24 * (10 * index + keyframe + 1)
    assert collate([dataset[0], dataset[1]])["sources"].shape == (2, count, 3, 16, 24)


def test_keyframes_come_in_the_order_of_their_numbers(tmp_path):
    _image(tmp_path / "image_1.png", 0)
    _mask(tmp_path / "image_1_mask.png", 1)
    for number in range(11):  # 10 comes before 2 in the alphabet
        _image(tmp_path / f"image_1_src_{number}.png", number)
        _mask(tmp_path / f"image_1_src_{number}_m.png", 1)
    assert GuidedFolder(root=str(tmp_path))[0]["sources"][:, 0, 0, 0].tolist() == list(range(11))


def test_list_of_files(folder):
    (folder / "one.txt").write_text("image_000001.png\n")
    dataset = GuidedFolder(root=str(folder), files=str(folder / "one.txt"))
    assert [dataset[i]["name"] for i in range(len(dataset))] == ["000001"]
    for text, message in (
        ("image_000007.png", "image_000007.png: no such file"),
        ("image_000001.png\nimage_000001.png", "line 2"),
        ("image_000001.png\nimage_000001", "same name"),
        ("../x.png", "inside the root"),
    ):
        (folder / "one.txt").write_text(text)
        with pytest.raises(InputError, match=message):
            GuidedFolder(root=str(folder), files=str(folder / "one.txt"))


@pytest.mark.parametrize(
    "missing",
    ["_mask", "", "_src_000001", "_src_000003"],
)
def test_missing_files_are_named(folder, missing):
    (folder / f"image_000001{missing}.png").unlink()
    with pytest.raises(InputError, match=f"image_000001{missing}.png"):
        GuidedFolder(root=str(folder))


def test_keyframes_without_masks_are_known(folder):
    (folder / "image_000001_src_000001_m.png").unlink()
    masks = GuidedFolder(root=str(folder))[1]["source_masks"]
    assert [int(mask.sum()) for mask in masks] == [24 * 11, 0, 24 * 13, 24 * 14]


def test_too_few_keyframes(folder):
    with pytest.raises(InputError, match=r"image_000000\.png: has 4 keyframes, expected at least 5"):
        GuidedFolder(root=str(folder), n_sources=5)
    with pytest.raises(InputError, match="n_sources"):
        GuidedFolder(root=str(folder), n_sources=-1)


def test_doubled_files(folder):
    _image(folder / "image_000000_src_1.png", 0)
    with pytest.raises(InputError, match="image_000000_src_000001.png: is there twice, as image_000000_src_1.png"):
        GuidedFolder(root=str(folder))
    (folder / "image_000000_src_1.png").unlink()
    _image(folder / "000000.png", 0)
    _mask(folder / "000000_mask.png", 0)
    with pytest.raises(InputError, match="same name"):
        GuidedFolder(root=str(folder), n_sources=0)


@pytest.mark.parametrize("name", ["_mask", "_src_000002", "_src_000002_m"])
def test_sizes_must_agree(folder, name):
    (_image if name == "_src_000002" else _mask)(folder / f"image_000001{name}.png", 1, shape=(16, 25))
    dataset = GuidedFolder(root=str(folder))
    dataset[0]
    with pytest.raises(InputError, match=f"image_000001{name}.png: is 25x16, expected 24x16"):
        dataset[1]


def test_damaged_file_is_named(folder):
    (folder / "image_000001_src_000000.png").write_bytes(b"no png")
    with pytest.raises(InputError, match="image_000001_src_000000.png"):
        GuidedFolder(root=str(folder))[1]


def test_links_do_not_lead_out(folder, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.png"
    _image(secret, 9)
    (folder / "image_000000.png").unlink()
    (folder / "image_000000.png").symlink_to(secret)
    with pytest.raises(InputError, match="leads out"):
        GuidedFolder(root=str(folder))[0]


def test_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no image"):
        GuidedFolder(root=str(tmp_path))
    (tmp_path / "a.jpg").write_text("")
    with pytest.raises(InputError, match="no sample"):
        GuidedFolder(root=str(tmp_path))
