import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gi.errors import InputError
from gi.media import io
from gi.media.files import open_video
from gi.media.masks import grow, open_masks
from gi.media.photos import mask_of
from tests.video_helpers import write_video

SIZE = (24, 32)
COUNT = 5


@pytest.fixture
def video(tmp_path):
    for number in range(COUNT):
        io.write_image(tmp_path / "video" / f"{number}.png", np.full((*SIZE, 3), 40 * number, np.uint8))
    return open_video(tmp_path / "video")


@pytest.fixture(scope="module")
def truth():
    masks = np.zeros((COUNT, *SIZE), np.uint8)
    for number in range(1, COUNT):  # the first frame has none
        masks[number, 4 + number : 12, 6:14] = 1
    return masks


def _folder(path, images, floats=False):
    path.mkdir()
    for number, image in enumerate(images):
        image.save(path / f"{number}{'.tif' if floats else '.png'}")
    return path


def _palette(indices, colours):
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette(np.array(colours, np.uint8).tobytes())
    return image


def _all(masks):
    return np.stack(list(masks.frames()))


def _with_alpha(channels, alpha):
    return Image.fromarray(np.dstack([*channels, alpha * np.uint8(255)]))


WHITE, LEFT = np.full(SIZE, 255, np.uint8), np.arange(SIZE[1]) < 10
KINDS = {
    "white": lambda mask: Image.fromarray(mask * 255),
    "half": lambda mask: Image.fromarray(mask * np.uint8(1) + np.uint8(127)),
    "bits": lambda mask: Image.fromarray(mask.astype(bool)),
    "colour": lambda mask: Image.fromarray(mask[..., None] * np.array([255, 0, 0], np.uint8)),
    "deep": lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535),
    "zero_one": lambda mask: Image.fromarray(mask),
    "deep_zero_one": lambda mask: Image.fromarray(mask.astype(np.uint16)),
    "objects": lambda mask: Image.fromarray(mask * (1 + np.arange(SIZE[1], dtype=np.uint8) % 9)),
    "davis": lambda mask: _palette(mask, [(0, 0, 0), (128, 0, 0), (0, 128, 0)]),
    "davis_dark": lambda mask: _palette(mask * np.uint8(2), [(0, 0, 0), (128, 0, 0), (0, 64, 0)]),
    "palette_white_first": lambda mask: _palette(1 - mask, [(255, 255, 255), (0, 0, 0)]),
    "label_maps": lambda mask: Image.fromarray(np.where(mask * LEFT, 7, mask * 200).astype(np.uint8)),
    "colour_labels": lambda mask: Image.fromarray(np.where((mask * LEFT)[..., None], [0, 0, 64],
                                                           mask[..., None] * [0, 128, 128]).astype(np.uint8)),
    "transparent_white": lambda mask: _with_alpha([WHITE] * 3, mask),
    "transparent_black": lambda mask: _with_alpha([WHITE * 0] * 3, mask),
    "opaque": lambda mask: _with_alpha([mask * WHITE] * 3, mask * 0 + 1),
    "grey_alpha": lambda mask: _with_alpha([WHITE] * 3, mask).convert("LA"),
    "deep_255": lambda mask: Image.fromarray(mask.astype(np.uint16) * 255),
    "deep_soft": lambda mask: Image.fromarray(
        (mask * 2048.0 + ndimage.uniform_filter(mask * 2047.0, 3)).astype(np.uint16)),
    "floats": lambda mask: Image.fromarray(mask.astype(np.float32)),
    "palette_black_last": lambda mask: _palette(1 - mask, [(255, 0, 0), (0, 0, 0)]),
    "palette_no_colours": lambda mask: _palette(mask, [(i, i, i) for i in range(256)]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_images(tmp_path, video, truth, kind):
    masks = open_masks(_folder(tmp_path / "masks", map(KINDS[kind], truth), kind == "floats"), video, dilate=0)
    found = _all(masks)
    assert f"{100 * truth.mean():.2f} % missing" in masks.remark and masks.remark.endswith("; nothing in 1 of 5")
    for number in (0, 2):  # one by one, as in sets of pictures
        path = sorted((tmp_path / "masks").iterdir())[number]
        np.testing.assert_array_equal(io.read_mask(path), truth[number])
        with Image.open(path) as image:
            np.testing.assert_array_equal(mask_of(image, "m"), truth[number])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, truth)
    np.testing.assert_array_equal(list(masks.frames(2, 4)), truth[2:4])
    assert (masks.count, masks.width, masks.height, masks.rate) == (COUNT, 32, 24, 25)


def test_faint_edges_stay_known_where_masks_are_grey(tmp_path, video, truth):
    """One image of a folder tells how all are meant, also those that are all dark."""
    images = truth * 255
    images[0, 3, 3], images[2, 0, 0] = 90, 5
    np.testing.assert_array_equal(_all(open_masks(_folder(tmp_path / "a", map(Image.fromarray, images)), video,
                                                  dilate=0)), truth)
    empty = open_masks(_folder(tmp_path / "b", map(Image.fromarray, truth * 0)), video)
    assert not _all(empty).any()


def test_one_image_for_all(tmp_path, video, truth):
    for number, kind in enumerate(("white", "davis", "zero_one")):
        KINDS[kind](truth[1]).save(tmp_path / f"{number}.png")
        masks = open_masks(tmp_path / f"{number}.png", video, dilate=0)
        np.testing.assert_array_equal(_all(masks), truth[[1] * COUNT])
        assert len(list(masks.frames(3))) == 2


@pytest.mark.parametrize("name, settings", [
    ("masks.mp4", {}), ("masks.webm", {"codec": "libvpx-vp9"}), ("masks.mkv", {"codec": "ffv1", "form": "gray"}),
])
def test_masks_in_a_video(tmp_path, video, truth, name, settings):
    write_video(tmp_path / name, np.repeat(truth[..., None] * np.uint8(255), 3, axis=3), **settings)
    found = _all(open_masks(tmp_path / name, video, dilate=0))
    assert (found != truth).mean() < 0.01 and found[2, 8, 10] == 1


@pytest.mark.parametrize("pixels", [0, 1, 4, 100])
def test_growing(tmp_path, video, truth, pixels):
    for mask in (truth[2], np.eye(*SIZE, dtype=np.uint8), truth[0], 1 - truth[0]):
        near = ndimage.distance_transform_edt(1 - mask) <= pixels if mask.any() else mask
        np.testing.assert_array_equal(grow(mask, pixels), near)
    folder = _folder(tmp_path / "masks", map(KINDS["white"], truth))
    np.testing.assert_array_equal(_all(open_masks(folder, video, dilate=pixels))[3], grow(truth[3], pixels))
    np.testing.assert_array_equal(_all(open_masks(folder, video)), _all(open_masks(folder, video, dilate=4)))


@pytest.mark.parametrize("size, pixels", [((240, 432), 4), ((48, 64), 4), ((480, 864), 8), ((1920, 1080), 18)])
def test_masks_of_large_videos_grow_more(tmp_path, size, pixels):
    mask = np.zeros(size, np.uint8)
    mask[20, 30] = 255
    for kind in ("frames", "masks"):
        _folder(tmp_path / kind, [Image.fromarray(mask)])
    found, = _all(open_masks(tmp_path / "masks", open_video(tmp_path / "frames")))
    np.testing.assert_array_equal(found, grow(mask // 255, pixels))


def test_fingerprint(tmp_path, video, truth):
    folder = _folder(tmp_path / "masks", map(KINDS["white"], truth))
    seen = {open_masks(path, video, dilate=dilate).fingerprint()
            for path in (folder, folder / "1.png", folder / "2.png") for dilate in (0, 4)}
    assert len(seen) == 6 and open_masks(folder, video).fingerprint() in seen


def test_what_does_not_fit(tmp_path, video, truth):
    def complaint(path, **settings):
        with pytest.raises(InputError) as caught:
            open_masks(path, video, **settings)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "4 masks, expected 5" in complaint(_folder(tmp_path / "few", map(KINDS["white"], truth[1:])))
    narrow = _folder(tmp_path / "narrow", (KINDS["white"](mask[:, 1:]) for mask in truth))
    for path in (narrow, narrow / "2.png"):
        assert "31x24 pixels, expected 32x24" in complaint(path)
    write_video(tmp_path / "short.mp4", np.repeat(truth[1:, ..., None], 3, axis=3) * np.uint8(255))
    assert "4 masks, expected 5" in complaint(tmp_path / "short.mp4")
    write_video(tmp_path / "dark.mp4", np.repeat(truth[..., None], 3, axis=3) * np.uint8(60))
    assert "brightest mask pixel is" in complaint(tmp_path / "dark.mp4")
    (tmp_path / "lossy").mkdir()
    for number, mask in enumerate(truth):
        Image.fromarray(mask * np.uint8(9)).save(tmp_path / "lossy" / f"{number}.jpg")
    assert "jpg: the brightest mask pixel is" in complaint(tmp_path / "lossy")
    assert "cannot grow" in complaint(narrow, dilate=-1)
    assert "no such file" in complaint(tmp_path / "nowhere")
    (tmp_path / "text.png").write_text("no mask")
    assert "cannot read" in complaint(tmp_path / "text.png")
    damaged = _folder(tmp_path / "damaged", map(KINDS["white"], truth))
    (damaged / "4.png").write_bytes((damaged / "4.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"4\.png"):
        _all(open_masks(damaged, video))


def test_masks_and_frames_are_paired_by_their_numbers(tmp_path, truth):
    """Gaps in one of them are named; counting from 1 instead of 0 is not a gap, but is said."""
    def numbered(name, numbers, form="shot2_{:03d}_v1.png"):
        for number in numbers:
            io.write_image(tmp_path / name / form.format(number), np.full((48, 64), 255 * (number % 2), np.uint8))
        return tmp_path / name
    frames = open_video(numbered("frames", [0, 1, 2, 4, 5]))
    assert len(list(open_masks(numbered("same", [0, 1, 2, 4, 5], "{}.png"), frames).frames())) == 5
    for name, numbers, message in (("gap", [0, 1, 2, 3, 5], r"003_v1.png: belongs to no frame, .* the number 3"),
                                   ("shifted", [1, 2, 3, 5, 6], r"shifted: nothing with the number 0, .*000_v1.png"),
                                   ("all", [0, 1, 2, 3, 4], r"003_v1.png: belongs to no frame")):
        with pytest.raises(InputError, match=message):
            open_masks(numbered(name, numbers), frames)
    for name in ("a_2.png", "b_1.png", "c_4.png", "d_0.png", "e_5.png"):  # by their names in another order
        io.write_image(tmp_path / "mixed" / name, np.zeros((48, 64), np.uint8))
    with pytest.raises(InputError, match=r"a_2.png: comes where .*000_v1.png does, but has another number"):
        open_masks(tmp_path / "mixed", frames)
    whole = open_video(numbered("whole", range(5)))
    masks = open_masks(numbered("from_one", range(1, 6)), whole)
    assert "numbered from 1, the frames from 0: taken in their order" in masks.remark
    assert masks.frames().__next__().all() and not open_masks(tmp_path / "whole", whole).order
