import hashlib
import io
import json
import os
import signal

import cv2
import numpy as np
import pytest
from PIL import Image

from gi.data import geometry, integer_image, make_validation, photometric
from gi.data.make_validation import JOURNAL, MANIFEST, Settings
from gi.data.validation import GuidedFolder
from gi.errors import InputError
from gi.media.io import read_image, read_mask, write_image


def photograph(height, width, seed=0):
    """Smooth and colourful, of whole numbers only, so that it is the same everywhere."""
    y, x = np.indices((height, width))
    waves = [(x * (3 + seed) + y * y // 40) % 510, (y * 4 + x * x // 60) % 510, (x * 2 + y * (2 + seed)) % 510]
    return np.minimum(np.stack(waves, -1), 510 - np.stack(waves, -1)).astype(np.uint8)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    for i, (height, width) in enumerate([(90, 140), (200, 150), (64, 64), (300, 300), (128, 100), (333, 217)]):
        write_image(root / f"of {i % 2}" / f"{i}.png", photograph(height, width, i))
    return root


SMALL = Settings(seed=3, count=5, keyframes=2, size=64)


def content(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(photographs, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "small"
    result = make_validation.make_validation(photographs, out, SMALL)
    assert (result.count, result.kept, result.bad) == (5, 0, {})
    return out


def test_loads_and_its_manifest_is_true(photographs, made):
    dataset = GuidedFolder(root=str(made))
    assert len(dataset) == 5 and [dataset[i]["name"] for i in (0, 4)] == ["000000", "000004"]
    sample = dataset[2]
    assert sample["image"].shape == (3, 64, 64) and sample["sources"].shape == (2, 3, 64, 64)
    assert 0 < sample["mask"].float().mean() < 1 and 0 < sample["source_masks"][1].float().mean() < 1
    manifest = json.loads((made / MANIFEST).read_text())
    assert manifest["settings"] == {"seed": 3, "count": 5, "keyframes": 2, "size": 64} and manifest["bad"] == {}
    files = {name: digest for record in manifest["samples"] for name, digest in record["files"].items()}
    assert files == {name: digest for name, digest in content(made).items() if name != MANIFEST}
    assert len({record["source"] for record in manifest["samples"]}) == 5
    for record in manifest["samples"]:
        path = photographs / record["source"]
        assert record["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert record["decoded_sha256"] == hashlib.sha256(read_image(path).tobytes()).hexdigest()


def test_targets_are_what_pillow_makes_of_the_central_square(photographs, made):
    for record in json.loads((made / MANIFEST).read_text())["samples"]:
        square, picture = record["square"], Image.open(photographs / record["source"])
        box = (square["left"], square["top"], square["left"] + square["side"], square["top"] + square["side"])
        assert square["side"] == min(picture.size) and abs(2 * square["left"] + square["side"] - picture.width) <= 1
        expected = np.asarray(picture.crop(box).resize((64, 64), Image.BILINEAR)).astype(int)
        found = read_image(made / f"image_{record['index']:06d}.png").astype(int)
        border = 3  # where the filter sees what is beside the square
        assert np.abs(found - expected)[border:-border, border:-border].max() <= 1


def test_keyframes_follow_from_the_manifest_with_opencv(photographs, made):
    kinds = {"perspective": geometry.Perspective, "affine": geometry.Affine, "radial": geometry.Radial,
             "crop": geometry.Crop}
    seen = set()
    for record in json.loads((made / MANIFEST).read_text())["samples"]:
        view = integer_image.square_view(read_image(photographs / record["source"]), size=64, margin=SMALL.margin)
        for number, frame in enumerate(record["keyframes"]):
            steps = []
            for step in frame["steps"]:
                kind = kinds[step.pop("kind")]
                seen.add(kind)
                steps.append(kind(**step))
            expected = geometry.resample(view, geometry.compose(steps, size=64))
            if "brightness" in frame:
                expected = photometric.change_brightness(expected, frame["brightness"], frame["contrast"])
            if "saturation" in frame:
                expected = photometric.shift_hsv(expected, 0, frame["saturation"], frame["value"])
            found = read_image(made / f"image_{record['index']:06d}_src_{number:06d}.png")
            difference = np.abs(found.astype(int) - expected)
            # OpenCV's hue has steps of 2 degrees, 1/30 of the way from one channel to the next.
            assert difference.max() <= (10 if "saturation" in frame else 1) and difference.mean() < 1.5
            assert (found.astype(int) - view[20:84, 20:84]).any()
    assert seen == set(kinds.values())


def test_the_same_for_any_workers_threads_and_processor_features(photographs, made, tmp_path):
    make_validation.make_validation(photographs, tmp_path / "two", SMALL, workers=2)
    assert content(tmp_path / "two") == content(made)
    cv2.setUseOptimized(False)
    try:
        make_validation.make_validation(photographs, tmp_path / "plain", SMALL)
    finally:
        cv2.setUseOptimized(True)
    assert content(tmp_path / "plain") == content(made)


def test_the_same_on_every_machine(made):
    """Of another machine these would be the digests too; strokes, which OpenCV draws, are left out."""
    files = sorted(path for path in made.glob("*.png") if not path.stem.endswith(("_m", "_mask")))
    assert len(files) == 15
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    assert digest == "29a594e52429685fc34cb342f5c625b6631c15c3988c88cef9c837708c945919"


def test_fewer_keyframes_are_the_first_ones_and_another_seed_is_another_set(photographs, made, tmp_path):
    make_validation.make_validation(photographs, tmp_path / "one", Settings(seed=3, count=5, keyframes=1, size=64))
    one, two = content(tmp_path / "one"), content(made)
    del one[MANIFEST]
    assert len(one) == 20 and one.items() <= two.items()
    make_validation.make_validation(photographs, tmp_path / "other", Settings(seed=4, count=5, keyframes=1, size=64))
    other = content(tmp_path / "other")
    assert not {digest for name, digest in one.items() if "_src_" in name} & set(other.values())


def test_goes_on_where_it_was_interrupted(photographs, made, tmp_path):
    class Stop(Exception):
        pass

    def stop_after_three(calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    out = tmp_path / "set"
    with pytest.raises(Stop):
        make_validation.make_validation(photographs, out, SMALL, advance=stop_after_three)
    assert not (out / MANIFEST).exists()
    with open(out / JOURNAL, "a") as journal:
        journal.write('{"index": 3, "sou')  # killed while writing
    (out / ".image_000003.x.tmp.png").write_bytes(b"half")
    changed = {"image_000001_src_000000.png": b"damaged", "image_000002.png": None}
    for name, data in changed.items():
        (out / name).write_bytes(data) if data else (out / name).unlink()
    before = (out / "image_000000.png").stat().st_mtime_ns
    result = make_validation.make_validation(photographs, out, SMALL)
    assert (result.count, result.kept) == (5, 1) and content(out) == content(made)
    assert (out / "image_000000.png").stat().st_mtime_ns == before
    assert make_validation.make_validation(photographs, out, SMALL, workers=2).kept == 5
    assert content(out) == content(made)


@pytest.mark.slow
def test_bad_photographs_are_replaced_while_there_are_others(photographs, tmp_path):
    root = tmp_path / "photographs"
    for i in range(8):
        write_image(root / f"{i}.png", photograph(70, 80, i))
    (root / "2.png").write_bytes((root / "2.png").read_bytes()[:200])
    write_image(root / "5.png", photograph(70, 63))
    settings = Settings(count=6, keyframes=1, size=32)
    results = [make_validation.make_validation(root, tmp_path / f"set{n}", settings, workers=n) for n in (1, 2)]
    assert content(tmp_path / "set1") == content(tmp_path / "set2") and results[0] == results[1]
    assert results[0].count == 6 and len(GuidedFolder(root=str(tmp_path / "set1"))) == 6
    all_of_them = make_validation.make_validation(root, tmp_path / "set3", Settings(count=8, keyframes=0, size=32))
    assert all_of_them.count == 6 and set(all_of_them.bad) == {"2.png", "5.png"}
    assert all_of_them.bad["5.png"] == "is 63x70, expected at least 64 a side"
    assert str(tmp_path) not in (tmp_path / "set3" / MANIFEST).read_text()
    assert len(GuidedFolder(root=str(tmp_path / "set3"))) == 6


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_worker_that_dies_is_told():
    with pytest.raises(InputError, match="a worker process died"):
        list(make_validation._shared_out(die, [1, 2], workers=2))


def test_refuses(photographs, made, tmp_path):
    other = tmp_path / "other"
    write_image(other / "mine.png", photograph(70, 70))
    for args, message in (
        ((photographs, made, Settings(seed=9, count=5, keyframes=2, size=64)), "holds a set with other settings"),
        ((photographs, other, SMALL), "holds other files"),
        ((photographs, photographs / "set", SMALL), "inside the folder of photographs"),
        ((photographs, tmp_path / "new", Settings(count=7)), "has 6 images, expected at least 7"),
        ((tmp_path / "nothing", tmp_path / "new", SMALL), "no such folder"),
    ):
        with pytest.raises(InputError, match=message):
            make_validation.make_validation(*args)
    with pytest.raises(InputError, match="keyframes: expected at least 0, got -1"):
        Settings(keyframes=-1)
    (other / "mine.png").unlink()
    (other / MANIFEST).write_text("{")
    with pytest.raises(InputError, match="manifest"):
        make_validation.make_validation(photographs, other, SMALL)


def test_command_line(photographs, tmp_path, run_script):
    run = run_script("make_guided_validation")
    options = ("--count", 2, "--keyframes", 1, "--size", 32, "--workers", 1)
    status, printed = run(photographs, tmp_path / "set", *options)
    assert status == 0 and "2 samples; manifest.json" in printed.out and "samples 2/2" in printed.err
    status, printed = run(photographs, tmp_path / "set", "--count", 20)
    assert status == 2 and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert run(photographs, tmp_path / "set", "--count", "x")[0] == 2


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1, 3), (200, 300, 3), (130, 520), (3, 1)])
def test_png_files_are_read_by_pillow_and_opencv(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = integer_image.encode_png(image)
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert picture.mode == ("RGB" if image.ndim == 3 else "L") and (np.asarray(picture) == image).all()
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (decoded.reshape(image.shape)[..., ::-1] == image).all() if image.ndim == 3 else (decoded == image).all()


def test_masks_are_read_back(tmp_path):
    (tmp_path / "m.png").write_bytes(integer_image.encode_png(np.eye(5, dtype=np.uint8) * 255))
    assert (read_mask(tmp_path / "m.png") == np.eye(5)).all()


def test_view_goes_on_around_the_target():
    image = photograph(100, 180)
    view = integer_image.square_view(image, size=50, margin=40)
    assert view.shape == (90, 90, 3)
    assert (view[20:70, 20:70] == integer_image.square_view(image, size=50, margin=0)).all()
    wide = np.asarray(Image.fromarray(image).resize((90, 50), Image.BILINEAR)).astype(int)
    assert np.abs(view[22:68].astype(int) - wide[2:-2])[:, 2:-2].max() <= 1  # real content left and right
    assert np.abs(view[:20].astype(int) - view[20:40][::-1]).mean() < 6  # mirrored above
    assert (integer_image.square_view(np.full((64, 99, 3), 7, np.uint8), size=256, margin=200) == 7).all()


def test_grey_keeps_to_opencv_and_saturation_clips():
    grey = np.full((1, 1, 3), 100, np.uint8)
    assert (integer_image.shift_saturation_value(grey, 3, 1) == photometric.shift_hsv(grey, 0, 3, 1)).all()
    assert (integer_image.shift_saturation_value(grey, -3, 0) == grey).all()
    red, black, white = (np.array([[color]], np.uint8) for color in ([255, 0, 0], [0, 0, 0], [255, 255, 255]))
    assert (integer_image.shift_saturation_value(red, 3, 1) == red).all()
    assert (integer_image.shift_saturation_value(black, -3, -1) == black).all()
    assert (integer_image.shift_saturation_value(white, 0, 1) == white).all()
