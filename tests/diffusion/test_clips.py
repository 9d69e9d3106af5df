"""Clips of photographs and of videos, as data."""
import numpy as np
import pytest
import torch

from gi.data.clips import Clips
from gi.data.datamodule import GuidedDataModule
from gi.data.mask_paths import Keyframes, Motion
from gi.data.photo_clips import PhotoClips
from gi.data.shape_clips import ShapeClips
from gi.data.sources import FolderTree
from gi.data.video_clips import VideoClips
from gi.errors import InputError
from gi.media import io
from tests.video_helpers import moving_pictures, write_video

NO_KEYFRAME = Keyframes(none=1, first=0, one=0, several=0)


@pytest.fixture
def photo_clips(photographs):
    images = FolderTree(root=str(photographs))
    return lambda **options: PhotoClips(images=images, frames=5, height=24, width=32, **options)


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in ("pixels", "masks", "fps")) and a["name"] == b["name"]


def test_samples_follow_from_seed_epoch_and_index(photo_clips):
    options = {"source": photo_clips(), "length": 25, "repeat": 2}
    data, other = Clips(**options), Clips(**options, seed=1)
    list(map(data.__getitem__, [(3, 3), (0, 1)]))  # what was asked before does not matter, cached photographs neither
    assert same(data[1, 7], Clips(**options)[1, 7]) and same(data[0, 7], data[7]) and same(data[2, 7], data[0, 7])
    assert not same(data[0, 7], data[1, 7]) and not same(data[0, 7], other[0, 7])
    assert len({data[0, index]["name"] for index in range(25)}) == 25
    with pytest.raises(IndexError):
        data[25]


def test_batches(photo_clips):
    module = GuidedDataModule(train=Clips(source=photo_clips(fps=12)), batch_size=3, num_workers=0)
    batch = next(iter(module.train_dataloader()))
    assert batch["pixels"].shape == (3, 5, 3, 24, 32) and batch["pixels"].dtype == torch.uint8
    assert batch["masks"].shape == (3, 5, 1, 24, 32) and batch["masks"].max() == 1 and batch["fps"].tolist() == [12] * 3
    broken = [Clips(source=photo_clips())[0] | {"masks": torch.full((5, 1, 24, 32), 255, dtype=torch.uint8)}]
    with pytest.raises(InputError, match="'train': 'masks' has values up to 255, expected 0 and 1"):
        next(iter(GuidedDataModule(train=broken, validation={"train": broken}, batch_size=1, num_workers=0)
                  .val_dataloader()[0]))


def test_still_photographs_and_objects(photo_clips):
    still = Motion(still=1)
    for seed in range(5):
        plain, whole = (photo_clips(camera=still, objects=share).clip(np.random.default_rng(seed), 2)
                        for share in (0, 1))
        assert (plain.frames == plain.frames[0]).all() and plain.shape is None
        changed = (plain.frames != whole.frames).any(axis=-1)
        assert changed.any() and not (changed & (whole.shape == 0)).any()  # the object is all that differs
        assert (whole.shape != whole.shape[0]).any()  # and it moves
    hidden = Clips(source=photo_clips(camera=still, objects=1), hide_object=1, keyframes=NO_KEYFRAME)
    for index in range(5):
        sample = hidden[index]
        known = torch.where(sample["masks"] == 0, sample["pixels"], 0).amax(dim=0)  # the background, where known
        assert all(torch.equal(frame * (1 - mask), known * (1 - mask))
                   for frame, mask in zip(sample["pixels"], sample["masks"], strict=True)) and sample["masks"].any()


def test_shapes_without_files():
    data = Clips(source=ShapeClips(objects=1, camera=Motion(still=1)), hide_object=1, keyframes=NO_KEYFRAME)
    assert same(data[1, 5], data[1, 5]) and not same(data[0, 5], data[1, 5]) and len(data) == 1000
    sample = data[5]
    assert sample["pixels"].shape == (8, 3, 32, 32) and sample["name"] == "shapes_000005"
    moving = (sample["pixels"] != sample["pixels"][0]).any(dim=1, keepdim=True)  # the object is all that changes
    assert moving.any() and not (moving & (sample["masks"] == 0) & (sample["masks"][0] == 0)).any()


def test_moving_camera_shows_the_photograph(photo_clips):
    """Frames as the map says: compared with scipy's bilinear interpolation."""
    from scipy.ndimage import map_coordinates
    clips, motion = photo_clips(objects=0, flip=0), Motion(still=0, shift=0.3, growth=1.2, rotation=20, deformation=0)
    maps = motion.sample(np.random.default_rng(4), 5, 24, 32)
    photograph = clips._photograph(np.random.default_rng(0), 3)
    corner = np.random.default_rng(7).uniform(0, 1, 2) * (photograph.shape[1] - 32, photograph.shape[0] - 24)
    frames = clips._view(np.random.default_rng(7), photograph, maps)
    for (x, y), frame in zip(maps, frames, strict=True):
        places = [y + corner[1], x + corner[0]]
        expected = map_coordinates(photograph[..., 1].astype(float), places, order=1, mode="mirror")
        assert np.abs(frame[..., 1] - expected).max() < 6  # OpenCV places samples on a grid of 1/32 pixel


def numbers(frames):
    """Of frames of `moving_pictures`, whose blue is 90 + 6 · number."""
    return np.round((frames[:, 20:, 20:, 2].mean(axis=(1, 2)) - 90) / 6).astype(int).tolist()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_clips_of_videos(tmp_path, kind):
    pictures = moving_pictures(12)
    if kind == "file":
        write_video(tmp_path / "video.mp4", pictures)
    else:
        for number, picture in enumerate(pictures):
            io.write_image(tmp_path / "video" / f"{number}.png", picture)
    clips = VideoClips(root=str(tmp_path), frames=4, height=48, width=64, rate=12.5, flip=0)
    starts = set()
    for seed in range(20):
        clip = clips.clip(np.random.default_rng(seed), 0)
        start = numbers(clip.frames)[0]
        assert numbers(clip.frames) == [start, start + 2, start + 4, start + 6] and clip.fps == 12.5
        assert np.abs(clip.frames - pictures[start:start + 7:2].astype(int)).mean() < 3
        starts.add(start)
    assert starts == set(range(6))
    cropped = VideoClips(root=str(tmp_path), frames=2, height=16, width=16, rate=None).clip(np.random.default_rng(0), 0)
    assert cropped.frames.shape == (2, 16, 16, 3) and cropped.fps == 25
    with pytest.raises(InputError, match="has 12 frames, expected 13 or more"):
        VideoClips(root=str(tmp_path), frames=13, rate=None).clip(np.random.default_rng(0), 0)


def test_clips_do_not_cross_scene_cuts(tmp_path):
    one, other = moving_pictures(9), 255 - moving_pictures(9)
    write_video(tmp_path / "film.mp4", [*one, *other])
    options = {"root": str(tmp_path), "height": 48, "width": 64, "rate": None}
    data = Clips(source=VideoClips(frames=5, **options), length=30)
    for index in range(30):
        brightness = data[index]["pixels"].float().mean(dim=(1, 2, 3))
        assert np.ptp(brightness.numpy()) < 30, index
    with pytest.raises(InputError, match="film.mp4: no 12 frames in a row without a scene cut"):
        VideoClips(frames=12, **options).clip(np.random.default_rng(0), 0)
    assert len(VideoClips(frames=12, across_cuts=True, **options).clip(np.random.default_rng(0), 0).frames) == 12


def test_lists_and_bad_files(tmp_path):
    io.write_image(tmp_path / "all" / "good" / "0.png", moving_pictures(1)[0])
    (tmp_path / "all" / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "list.txt").write_text("good\n")
    options = {"frames": 1, "height": 16, "width": 16}
    listed = VideoClips(root=str(tmp_path / "all"), list=str(tmp_path / "list.txt"), **options)
    assert [listed.name(index) for index in range(len(listed))] == ["good"]
    both = VideoClips(root=str(tmp_path / "all"), **options)
    assert [both.name(index) for index in range(len(both))] == ["bad.mp4", "good"]
    with pytest.raises(InputError, match=r"bad\.mp4: not a video"):
        Clips(source=both)[0]
    assert Clips(source=both, on_bad="skip")[0]["name"] == "good@0"
    (tmp_path / "list.txt").write_text("../list.txt\n")
    with pytest.raises(InputError, match="line 1"):
        VideoClips(root=str(tmp_path / "all"), list=str(tmp_path / "list.txt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no video in this folder"):
        VideoClips(root=str(tmp_path / "empty"), **options)
