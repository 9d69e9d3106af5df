import csv
import json
import math

import numpy as np
import pytest

from gi.config import load_config
from gi.errors import InputError
from gi.metrics.image import ImageScores
from gi.report.paper import TABLES, find_row, stated_rows
from gi.report.results import describe, read_results, read_run, report_results, write_results

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
                       features={"inception": rng.random((count, 3, 4))} if fid else None)


def same(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def test_json_gives_everything_back_and_is_strict(tmp_path):
    written = describe(scores(), run="ours", set_name="two", metadata={"checkpoint": "inf", "nothing": None})
    write_results(written, tmp_path / "two.json")
    assert same(written, {"run": "ours", "set": "two", "checkpoint": "inf", **scores().to_dict()})
    found = read_results(tmp_path / "two.json")
    found["checkpoint"] = "inf"
    assert same(found, written)

    def refuse(name):
        raise AssertionError(name)

    json.loads((tmp_path / "two.json").read_text(), parse_constant=refuse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two.csv", "two.json"]


def test_csv_has_every_image(tmp_path):
    write_results(describe(scores(), run="ours", set_name="two"), tmp_path / "two.json")
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
        (json.dumps(right | {"images": [{"name": "a"}]}), "images: expected a name and a hole_area"),
        (json.dumps({"count": 1, "totals": {}, "videos": []}), "results of videos: compare .* evaluate-video --method"),
        *((json.dumps(right | {"measures": measures}), "measures: expected label") for measures in (
            [], {"x": 1}, {"x": {"label": "X"}}, {"x": {"label": "X", "decimals": 10**9, "higher": True}},
            {"x": {"label": 1, "decimals": 2, "higher": True}}, {"x": {"label": "X", "decimals": "2", "higher": 1}},
            {"x": {"label": "X", "decimals": True, "higher": True}})),
        *((json.dumps(right | change), message) for change, message in (
            ({"run": 5}, "run is 5, expected a name"), ({"step": "30"}, "step is '30', expected a number"),
            ({"step": 2**70}, "step is"), ({"set": ["a"]}, "set is .*, expected a name"),
            ({"totals": {"composite": {"psnr": 10**400}, "raw": {}}}, "totals.composite"))),
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
    report_results(sets, "ours", tmp_path, paper={"two": find_row(4, "ours"), "four": find_row(2, "ours")})
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


@pytest.mark.parametrize(("config", "expected"), [
    ("ours", {"two": (16.90, 0.154, 0.834), "four": (14.29, 0.137, 0.848)}),
    ("ours_big", {"two": (15.45, 0.148, 0.849), "four": (13.09, 0.130, 0.865)}),
    ("ours_no_ffc", {"two": (17.62, 0.157, 0.833), "four": (14.78, 0.140, 0.851)}),
    ("transformer", {"two": (18.87, 0.181, 0.802), "four": (18.18, 0.175, 0.821)}),
    ("lama_spectralfuse", {"two": (26.74, 0.212, 0.759), "four": (26.40, 0.211, 0.794)}),
    ("ours_unguided", {"none": (13.15, 0.145, 0.837)}), ("ours_no_ffc_unguided", {"none": (14.19, 0.155, 0.831)}),
    ("transformer_unguided", {"none": (15.19, 0.173, 0.814)}), ("lama_unguided", {"none": (13.73, 0.147, 0.836)}),
    ("lama_spectralfuse_unguided", {"none": (13.73, 0.147, 0.836)}),
    ("lama", {}), ("lama_big", {}), ("ours_big_unguided", {}), ("demo", {}),
    ("small/ours", {}), ("small/ours_unguided", {}), ("small/ours_small", {}),
])
def test_rows_of_the_paper_are_those_that_a_configuration_states(root, config, expected):
    rows = stated_rows(load_config(root / "configs" / f"{config}.yaml"))
    assert {name: (row.scores["fid"], row.scores["lpips"]["mean"], row.scores["ssim"]["mean"])
            for name, row in rows.items()} == expected


@pytest.mark.parametrize(("section", "message"), [
    ({"row": "our", "tables": {"two": 4}}, "paper.tables.two: table 4 of the paper has no row 'our'.*you mean ours"),
    ({"row": "lama", "tables": {"none": 1, "two": 4}}, "paper.tables.two: table 4 of the paper has no row 'lama'"),
    ({"row": "ours", "tables": {"two": 5}}, "paper.tables.two: the paper has no table 5"),
    ({"row": "ours", "tables": {"two": "4"}}, "no table '4'"), ({"row": "ours"}, "paper.tables: is missing"),
    ({"row": "ours", "table": 4}, "paper.table: no such key; did you mean tables"),
    ({"row": "ours", "tables": 4}, "paper: expected a row"), ("ours", "paper: expected a row"),
])
def test_a_row_that_the_paper_does_not_have(section, message):
    with pytest.raises(InputError, match=message) as error:
        stated_rows({"paper": section})
    assert "\n" not in str(error.value)


def test_the_paper_has_its_measures_in_every_row():
    assert {number: {key for row in table["rows"].values() for key in row} for number, table in TABLES.items()} == {
        1: {"fid", "lpips", "ssim"}, 2: {"fid", "lpips", "ssim"}, 4: {"fid", "lpips", "ssim"},
        3: {"fid", "lpips", "ssim2", "vfid", "pvcs", "pcons"}}


def test_compare(tmp_path, run_script, capsys):
    run = run_script("compare")
    first, second = tmp_path / "2026-01-31T12-00-00_ours", tmp_path / "try[1]"
    report_results({"two": scores(lpips=0.2), "four": scores()}, "ours", first, paper={"two": find_row(4, "ours")})
    report_results({"two": scores(lpips=0.1)}, "ours_big", second, paper={"two": find_row(4, "ours_big")},
                   metadata={"step": 12_000})
    write_results(describe(scores(lpips=0.3, fid=False), run="other", set_name="two"), tmp_path / "other.json")
    capsys.readouterr()
    status, printed = run(first, second, tmp_path / "other.json", "--paper", "4:transformer")
    assert status == 0
    four, _, two = printed.out.partition("two: composites")
    lines = [" ".join(line.split()) for line in two.splitlines()]
    for row in "transformer (paper, table 4) 18.87 0.181 ± 0.096", "ours (paper, table 4) 16.90 0.154 ± 0.089":
        assert any(line.startswith(row) for line in lines)
    assert "transformer (paper" in four and "ours (paper" not in four  # which was not stated for this set
    after = {name: next(i for i, line in enumerate(lines) if line.startswith(name)) for name in
             (first.name, "try[1]", "other")}
    assert "0.200 ± 0.000" in lines[after[first.name]] and "+0.046" in lines[after[first.name] + 1]
    assert "0.100 ± 0.000" in lines[after["try[1]"]]
    assert lines[after["try[1]"]].split()[1:3] == ["12,000", "6"] and lines[after["other"]].split()[1] == "6"
    assert any(line.startswith("steps images") for line in lines) and "steps" not in four  # said for one set only
    assert "against ours_big (paper, table 4)" in lines[after["try[1]"] + 1]
    assert "0.300 ± 0.000" in lines[after["other"]]
    counted = json.loads((tmp_path / "other.json").read_text())
    counted["totals"]["composite"]["psnr"]["count"] -= 1  # as when infinite scores were left out
    (tmp_path / "other.json").write_text(json.dumps(counted))
    assert "means of different images" in " ".join(run(second, tmp_path / "other.json")[1].out.split())
    status, printed = run(first, tmp_path)
    assert status == 2 and printed.err.startswith("error: ") and "no results" in printed.err
