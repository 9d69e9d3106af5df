"""The study of the pipeline's steps, on two tiny videos."""
import cv2
import pytest

from gi.errors import InputError
from gi.media import io
from tests.test_video_pipeline import scene
from tools.video_study import study


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("davis")
    for seed, name in enumerate(("one", "two")):
        for number, (frame, mask) in enumerate(scene(7 + seed, seed=seed)):
            io.write_image(root / name / "frames" / f"{number:05d}.png", frame)
            io.write_image(root / name / "masks" / f"{number:05d}.png", 255 * mask)
    return root


def test_cases_measures_and_pictures(root, tmp_path):
    cases = study.cases(root, size=(96, 64), longest=7)
    assert [(case.name, case.known, len(case.frames)) for case in cases] == [
        ("one, hole of two", True, 7), ("one, object removed", False, 7),
        ("two, hole of one", True, 7), ("two, object removed", False, 7)]
    assert all(mask.any() and mask.mean() < 0.3 for mask in cases[0].masks)
    methods = study.methods(offered={"device": "cpu"})
    rows, results = {}, {}
    for case in cases[:2]:
        for name in ("cv2.inpaint, frame by frame", "14 guides + prealign"):
            rows[case.name, name], results[name] = study.measure(case, methods[name])
    known = rows["one, hole of two", "14 guides + prealign"]
    assert known["psnr_hole"] > rows["one, hole of two", "cv2.inpaint, frame by frame"]["psnr_hole"]
    assert set(rows["one, object removed", "14 guides + prealign"]) == {"seconds"}
    table = study.table(rows)
    assert f"| 14 guides + prealign | {known['psnr_hole']:.2f} |" in table and "**one, object removed**" in table
    paths = study.write_pictures(tmp_path, cases[0], results)
    assert io.read_image(paths[0]).shape == (3 * (64 + 18), 4 * 96, 3)
    assert io.read_image(paths[1]).shape == (3 * (7 + 18), 96, 3)
    study.plot(tmp_path / "scores.png", rows)
    assert cv2.imread(str(tmp_path / "scores.png")).std() > 10


def test_one_video_is_not_enough(tmp_path):
    (tmp_path / "one" / "frames").mkdir(parents=True)
    with pytest.raises(InputError, match="expected at least two folders"):
        study.cases(tmp_path)
