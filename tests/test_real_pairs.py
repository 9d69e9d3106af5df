"""Real pairs: squares of videos, whose own holes are never a target's."""
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gi.data.datamodule import collate
from gi.data.masks import CentralSquare
from gi.data.real_pairs import RealPairs
from gi.data.sample import check_sample
from gi.errors import InputError
from gi.media import io
from gi.media.files import open_video
from tests.video_helpers import moving_pictures, write_video

COUNT, HEIGHT, WIDTH = 12, 48, 64


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two of them, `root/a` and `root/b.mp4`, with masks `holes/a` and `holes/b`; the hole is red in `a`."""
    root = tmp_path_factory.mktemp("videos")
    frames = moving_pictures(COUNT, HEIGHT, WIDTH)
    masks = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    for number in range(COUNT):
        masks[number, 6:14, 44 + number:50 + number] = 1
    coloured = np.where(masks[..., None] > 0, np.uint8([255, 0, 255]), frames)
    for number in range(COUNT):
        io.write_image(root / "root" / "a" / f"{number}.png", coloured[number])
        for name in ("a", "b"):
            io.write_image(root / "holes" / name / f"{number}.png", 255 * masks[number])
    write_video(root / "root" / "b.mp4", frames)
    return root


def test_targets_are_known_and_keyframes_are_other_frames(videos):
    dataset = RealPairs(videos=str(videos / "root"), masks=str(videos / "holes"), dilate=0, size=32, reach=3, length=40)
    frames = {"a": np.stack(list(open_video(videos / "root" / "a").frames())),
              "b.mp4": np.stack(list(open_video(videos / "root" / "b.mp4").frames()))}
    seen, hidden = set(), 0
    for index in range(len(dataset)):
        sample = dataset[1, index]
        check_sample(sample, "real pairs")
        name, number = sample["name"].split("#")[0].split("/")
        pictures = frames[name]
        height, width = pictures.shape[1] - 32 + 1, pictures.shape[2] - 32 + 1
        image = sample["image"].permute(1, 2, 0).numpy()
        places = [(y, x) for y in range(height) for x in range(width)
                  if np.array_equal(pictures[int(number), y:y + 32, x:x + 32], image)]
        assert len(places) == 1  # the frame itself: nothing in it is empty
        (y, x), = places
        assert not (image == (255, 0, 255)).all(axis=-1).any()
        assert sample["mask"].any()
        for source, hole in zip(sample["sources"], sample["source_masks"], strict=True):
            source = source.permute(1, 2, 0).numpy()
            own = [i for i in range(COUNT) if np.array_equal(
                source[hole[0].numpy() == 0], pictures[i, y:y + 32, x:x + 32][hole[0].numpy() == 0])]
            assert own and int(number) not in own and min(abs(i - int(number)) for i in own) <= 3
            assert not (source == (255, 0, 255)).all(axis=-1).any()  # what its own hole hides
            hidden += int((source == 0).all(axis=-1).any())
        seen.add(name)
    assert seen == {"a", "b.mp4"} and hidden


def test_samples_follow_from_epoch_and_index(videos):
    options = {"videos": str(videos / "root" / "a"), "masks": str(videos / "holes" / "a"), "dilate": 0, "size": 32}
    first, again = RealPairs(**options), RealPairs(**options, cache=0)
    for key, value in first[3, 7].items():
        assert torch.equal(value, again[3, 7][key]) if isinstance(value, torch.Tensor) else value == again[3, 7][key]
    assert not torch.equal(first[7]["image"], first[1, 7]["image"])
    batch = next(iter(DataLoader(RealPairs(**options, n_sources=3), batch_size=2, collate_fn=collate)))
    assert batch["sources"].shape == (2, 3, 3, 32, 32)


def test_moved_holes_and_drawn_ones(videos):
    """All frames of a sample have the video's holes moved alike, and keyframes their own as well."""
    video, holes = str(videos / "root" / "a"), str(videos / "holes" / "a")
    moved = RealPairs(videos=video, masks=holes, dilate=0, size=48)
    for index in range(5):
        sample = moved[index]
        hole = sample["mask"][0].numpy()
        assert 0 < hole.sum() <= 8 * 6
        for other in sample["source_masks"][:, 0].numpy():  # the hole goes one pixel a frame to the right
            assert any(np.array_equal(_right(hole, k) & other, _right(hole, k)) for k in range(-11, 12) if k)
    drawn = RealPairs(videos=video, size=32, mask=CentralSquare())[0]
    assert drawn["mask"].sum() == 16 * 16 and torch.equal(drawn["mask"], drawn["source_masks"][0])
    assert RealPairs(videos=video, size=32)[0]["mask"].any()


def test_videos_with_dots_in_their_names_and_frames_without_holes(tmp_path):
    """Each has its own masks, and every target has a hole, also where only another frame of the sample has one."""
    for name, side in (("2024.01.05", 4), ("2024.01.06", 6)):
        for number, frame in enumerate(moving_pictures(6, 40, 40)):
            io.write_image(tmp_path / "videos" / name / f"{number}.png", frame)
            mask = np.zeros((40, 40), np.uint8)
            mask[:side, :side] = 255 * (number % 2)
            io.write_image(tmp_path / "masks" / name / f"{number}.png", mask)
    dataset = RealPairs(videos=str(tmp_path / "videos"), masks=str(tmp_path / "masks"), dilate=0, size=32,
                        n_sources=5)
    sizes = {"2024.01.05": set(), "2024.01.06": set()}
    for index in range(60):
        sample = dataset[index]
        sizes[sample["name"].split("/")[0]].add(int(sample["mask"].sum()))
    assert 0 < min(sizes["2024.01.05"]) and max(sizes["2024.01.05"]) == 16
    assert 0 < min(sizes["2024.01.06"]) and max(sizes["2024.01.06"]) == 36


def _right(hole, pixels):
    margin = abs(pixels)
    return np.pad(hole, ((0, 0), (margin, margin)))[:, margin - pixels:][:, :hole.shape[1]]


@pytest.mark.parametrize("options, message", [
    ({"videos": "nowhere"}, "nowhere: no such file or folder"),
    ({"size": 56}, "frames of 64x48 hold no square of 56 pixels"),
    ({"n_sources": 12}, "12 frames, expected more than the 12 keyframes"),
    ({"masks": "other"}, "expected its masks as"),
])
def test_what_does_not_fit(videos, options, message):
    (videos / "other").mkdir(exist_ok=True)
    options = {"videos": str(videos / "root"), "size": 32} | options
    if "masks" in options:
        options["masks"] = str(videos / "other")
    with pytest.raises(InputError, match=message):
        RealPairs(**options)


def test_a_hole_everywhere(videos):
    io.write_image(videos / "all.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    with pytest.raises(InputError, match="no square of 32 pixels without missing ones; a smaller size helps"):
        RealPairs(videos=str(videos / "root" / "a"), masks=str(videos / "all.png"), size=32)[0]
