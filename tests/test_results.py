import csv
import json
import math
import runpy
import sys

import numpy as np
import pytest

from gi.errors import InputError
from gi.metrics.image import ImageScores
from gi.report import paper
from gi.report.results import read_results, read_run, report_results, write_results

MEASURED = ("ssim", "ssim_hole", "psnr", "psnr_hole", "lpips")


def scores(count=6, lpips=0.2, fid=True):
    """Scores with everything that is awkward: nan, infinity, names of all kinds, an empty tenth."""
    rng = np.random.default_rng(0)
    values = {(view, key): rng.random(count) for view in ("composite", "raw") for key in MEASURED}
    values["composite", "lpips"][:] = lpips
    values["composite", "ssim_hole"][0] = math.nan
    values["composite", "psnr"][1] = math.inf
    return ImageScores(names=["inf", "b,\"c", "ü/\udcff", "d\ne", "[bold]x", ""][:count],
                       hole=np.array([0, 5, 15, 15, 95, 100])[:count], pixels=np.full(count, 100), scores=values,
                       features=rng.random((count, 3, 4)) if fid else None)


def same(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def test_json_gives_everything_back_and_is_strict(tmp_path):
    written = write_results(scores(), tmp_path / "two.json", run="ours", set_name="two",
                            about={"checkpoint": "inf", "nothing": None})
    assert same(written, {"run": "ours", "set": "two", "checkpoint": "inf", **scores().to_dict()})
    found = read_results(tmp_path / "two.json")
    found["checkpoint"] = "inf"
    assert same(found, written)

    def refuse(name):
        raise AssertionError(name)

    json.loads((tmp_path / "two.json").read_text(), parse_constant=refuse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two.csv", "two.json"]


def test_csv_has_every_image(tmp_path):
    write_results(scores(), tmp_path / "two.json", run="ours", set_name="two")
    with open(tmp_path / "two.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    images = scores().images
    assert [row["name"] for row in rows] == [image["name"] for image in images]
    assert rows[0]["composite/ssim_hole"] == "" and rows[1]["composite/psnr"] == "inf"
    assert float(rows[3]["raw/lpips"]) == images[3]["raw/lpips"] and float(rows[4]["hole_area"]) == 0.95


def test_reading_something_else(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(InputError, match="x.json: cannot be read as results: No such file"):
        read_results(path)
    right = {"count": 1, "totals": {"composite": {}, "raw": {}}, "bins": [], "images": []}
    for content, message in (
        ("{", "not JSON"), ("[]", "a mapping"), ("[" * 100_000, "not JSON"), ("{}", "no count"),
        (json.dumps(right | {"count": "1"}), "no count"), (json.dumps(right | {"totals": {}}), "totals.composite"),
        (json.dumps(right | {"totals": {"composite": {"fid": {"mean": 1}}, "raw": {}}}), "totals.composite"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_results(path)
    path.write_text(json.dumps(right))
    assert read_results(path)["set"] == "x" and len(read_run(path)) == 1
    with pytest.raises(InputError, match="no results"):
        read_run(tmp_path)


def test_report_writes_sets_and_prints_the_paper_beside_them(tmp_path, capsys):
    sets = {"two": scores(lpips=0.2), "four": scores(lpips=0.1), "a/..": scores(2, fid=False)}
    report_results(sets, "ours", tmp_path)
    assert sorted(path.name for path in (tmp_path / "metrics").iterdir()) == [
        "a_...csv", "a_...json", "four.csv", "four.json", "two.csv", "two.json"]
    lines = capsys.readouterr().out.splitlines()
    lpips = [line.split() for line in lines if line.split()[:1] == ["LPIPS"]]
    assert lpips[0][2:9] == ["0.200", "±", "0.000", "0.154", "±", "0.089", "+0.046"]
    assert lpips[1][2:9] == ["0.100", "±", "0.000", "0.137", "±", "0.080", "-0.037"]
    assert len(lpips[2]) == 8 and "ours on a/..: 2 images" in "\n".join(lines)  # no row of the paper for this set
    fid = [line.split() for line in lines if line.split()[:1] == ["FID"]]
    assert [row[3] for row in fid] == ["16.90", "14.29"]
    assert float(fid[0][4]) == pytest.approx(float(fid[0][2]) - 16.90, abs=0.011)


@pytest.mark.parametrize(("run", "set_name", "expected"), [
    ("ours", "two", (16.90, 0.154, 0.834)), ("ours", "four", (14.29, 0.137, 0.848)),
    ("ours_unguided", "none", (13.15, 0.145, 0.837)), ("lama_unguided", "none", (13.73, 0.147, 0.836)),
    ("lama", "none", (13.73, 0.147, 0.836)), ("lama_spectralfuse_unguided", "none", (13.73, 0.147, 0.836)),
    ("2026-01-31T12-00-00_ours_big", "two_keyframes", (15.45, 0.148, 0.849)),
    ("logs/2026-01-31T12-00-00_ours_no_ffc/", "four", (14.78, 0.140, 0.851)),
    ("lama_spectralfuse", "two", (26.74, 0.212, 0.759)), ("transformer", "four", (18.18, 0.175, 0.821)),
    ("transformer_unguided", "none", (15.19, 0.173, 0.814)),
    ("ours", "none", None), ("ours_unguided", "two", None), ("lama", "two", None), ("ours_big_unguided", "none", None),
    ("mine", "two", None), ("ours", "held_out", None), ("ours", "twofold", None),
])
def test_rows_of_the_paper(run, set_name, expected):
    method = paper.method_of(run, set_name)
    if expected is None:
        assert method is None
    else:
        row = paper.ROWS[paper.set_of(set_name)][method]
        assert (row["fid"], row["lpips"]["mean"], row["ssim"]["mean"]) == expected


def test_every_config_of_the_paper_finds_its_row(root):
    for path in (root / "configs").glob("*.yaml"):
        sets = [name for name in paper.ROWS if paper.method_of(path.stem, name)]
        expected = {"demo": [], "lama": ["none"], "lama_big": [], "ours_big_unguided": []}
        guided = ["none"] if path.stem.endswith("_unguided") else ["two", "four"]
        assert sets == expected.get(path.stem, guided), path.stem
    assert paper.name_of_run("base", "ours_big", "2026-01-31T12-00-00_try") == "ours_big"
    assert paper.name_of_run("demo", "try") == "try"


def test_compare(tmp_path, root, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(root / "scripts" / "compare.py"), run_name="__main__")
        return end.value.code, capsys.readouterr()

    first, second = tmp_path / "2026-01-31T12-00-00_ours", tmp_path / "try[1]"
    report_results({"two": scores(lpips=0.2), "four": scores()}, "ours", first)
    report_results({"two": scores(lpips=0.1)}, "ours_big", second)
    write_results(scores(lpips=0.3, fid=False), tmp_path / "other.json", run="other", set_name="two")
    capsys.readouterr()
    status, printed = run(first, second, tmp_path / "other.json")
    assert status == 0
    two = printed.out[printed.out.index("two: composites"):]
    lines = [" ".join(line.split()) for line in two.splitlines()]
    assert any(line.startswith("ours (paper, table 4) 2,000 16.90 0.154 ± 0.089 0.834 ± 0.118") for line in lines)
    after = {name: next(i for i, line in enumerate(lines) if line.startswith(name)) for name in
             (first.name, "try[1]", "other")}
    assert "0.200 ± 0.000" in lines[after[first.name]] and "+0.046" in lines[after[first.name] + 1]
    assert "0.100 ± 0.000" in lines[after["try[1]"]] and "against ours (big) (paper)" in lines[after["try[1]"] + 1]
    assert "0.300 ± 0.000" in lines[after["other"]]
    status, printed = run(first, tmp_path)
    assert status == 2 and printed.err.startswith("error: ") and "no results" in printed.err
