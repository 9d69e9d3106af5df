"""The benchmark: counts against torch's own and by hand, laps, and every path with a tiny network."""
import copy
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gi.config import load_config
from gi.errors import InputError
from gi.flow.estimate import ZeroFlow
from gi.report.results import write_json
from gi.report.tables import print_table
from tools.benchmark.bounds import Limits, WorkCounter, bound, measure_limits
from tools.benchmark.parts import Parts, Settings, without_missing_weights
from tools.benchmark.paths import PATHS
from tools.benchmark.report import read_report, run_paths
from tools.benchmark.table import benchmark_table, comparison_table, differences, duration, remarks
from tools.benchmark.timing import Meter, run_laps
from tools.benchmark.video import FIRST, scene

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def settings(root):
    config = load_config([root / "tests" / "tiny.yaml"], ["data.params.train.params.images.params.root=unused"])
    return Settings(config=config, device=CPU, size=32, repeats=1, video=(40, 60), fid_images=8, samples=2)


@pytest.fixture(scope="module")
def report(settings):
    """Of all paths but the slowest, with something quick in the place of RAFT."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gi.flow.estimate.RAFT", ZeroFlow)
        names = [path for path in PATHS if path != "video"]
        return run_paths(settings, names, name="tiny", side=64, copied=1 << 16, repeats=1)


# Work -----------------------------------------------------------------------------------------------------------------

def test_flops_are_torchs_own_forwards_and_backwards():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, groups=1), nn.ReLU(), nn.ConvTranspose2d(8, 4, 3, stride=2),
                            nn.Flatten(2), nn.Linear(15 * 15, 6))
    image = torch.rand(2, 3, 16, 16)
    found = []
    for counter in WorkCounter(), FlopCounterMode(display=False):
        with counter:
            network(image).sum().backward()
        found.append(counter.flops if isinstance(counter, WorkCounter) else counter.get_total_flops())
    assert found[0] == found[1] > 0


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_flops_by_hand_in_every_mode(mode):
    x, linear = torch.rand(4, 32), nn.Linear(32, 8)
    query, key = torch.rand(1, 2, 6, 16), torch.rand(1, 2, 10, 16)
    for function, expected in (
        (lambda: linear(x), 2 * 4 * 32 * 8),
        (lambda: F.scaled_dot_product_attention(query, key, key), 2 * 2 * 2 * 6 * 10 * 16),
        (lambda: torch.fft.rfft2(x.view(2, 8, 8)), 5 * 2 * 64 * 6 // 2),
        (lambda: torch.fft.irfft2(torch.fft.rfft2(x.view(2, 8, 8)), s=(8, 8)), 5 * 2 * 64 * 6),
        (lambda: torch.fft.fft(torch.complex(x, x)), 5 * 4 * 32 * 5),
        (lambda: x + 1, 0),
    ):
        with mode(), WorkCounter() as work:
            function()
        assert work.flops == expected


def test_bytes_by_hand():
    x = torch.rand(100, 10)
    for function, numbers in (
        (lambda: x + x, 3000),
        (lambda: x.add_(1), 2000),
        (lambda: x.T.reshape(1000)[:5].unsqueeze(0), 2000),  # only the copy
        (lambda: x.view(10, 100).expand(3, 10, 100), 0),
        (lambda: x[:1].expand(100, 10) + x, 3000),
        (lambda: torch.empty(50), 0),
        (lambda: torch.stack([x, x]), 4000),
    ):
        with torch.no_grad(), WorkCounter() as work:
            function()
        # An expanded tensor is counted as what exists of it, here at most all of x.
        assert work.bytes == 4 * numbers


def test_bound_is_the_larger_of_both_and_measured():
    limits = Limits(flops=100.0, bandwidth=10.0)
    assert bound(1000, 20, limits) == 10 and bound(100, 20, limits) == 2
    assert bound(None, None, limits) is None and bound(0, 0, limits) is None
    assert limits.best(Limits(50.0, 20.0)) == Limits(100.0, 20.0)
    measured = measure_limits(CPU, torch.float32, side=64, copied=1 << 16, repeats=2)
    assert 1e6 < measured.flops < 1e14 and 1e6 < measured.bandwidth < 1e14


# Laps -----------------------------------------------------------------------------------------------------------------

def test_laps_alternate_and_the_last_is_counted():
    done, meters = [], [Meter(CPU, repeats=2, warmup=1) for _ in range(2)]
    x = torch.rand(8, 8)

    def lap(name):
        def work(number):
            done.append((name, number))
            time.sleep(0.02)
            return x @ x
        return work

    run_laps((meters[0], lap("a")), (meters[1], lap("b")))
    assert done == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2), ("b", 3), ("a", 3)]
    for meter in meters:
        result = meter.result("half", 2)
        assert len(result.seconds) == len(result.cpu_seconds) == 2 and min(result.seconds) >= 0.01
        assert max(result.cpu_seconds) < 0.01  # asleep
        assert result.flops == 2 * 8**3 / 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not forget an earlier peak")
def test_peak_memory_of_the_laps_alone():
    np.ones(200 << 20, np.uint8)  # a higher peak before does not count
    meter = Meter(CPU, repeats=1, warmup=0, count=False)
    run_laps((meter, lambda lap: np.ones(64 << 20, np.uint8)))
    assert 60 << 20 < meter.memory.peak < 90 << 20


def test_an_error_leaves_nothing_counting():
    meter = Meter(CPU, repeats=1, warmup=0)
    with pytest.raises(ZeroDivisionError):
        run_laps((meter, lambda lap: 1 / (1 - lap)))
    before = meter.counter.flops
    torch.rand(4, 4) @ torch.rand(4, 4)
    assert meter.counter.flops == before


# Parts and paths ------------------------------------------------------------------------------------------------------

def test_only_missing_weights_are_left_out(tmp_path):
    there = tmp_path / "there.pth"
    there.touch()
    notes = []
    node = {"target": "gi.flow.guidance.FlowGuidance",
            "params": {"estimator": {"target": "gi.flow.estimate.RAFT", "params": {"weights": str(there)}}}}
    assert without_missing_weights(node, notes) == node and not notes
    node["params"]["estimator"]["params"]["weights"] = str(tmp_path / "missing.pth")
    found = without_missing_weights(node, notes)
    assert found["params"]["estimator"]["params"]["weights"] is None
    assert notes == ["RAFT untrained: no weights here"]


@pytest.mark.slow
def test_every_path_gives_its_cases(report):
    assert list(report["cases"]) == [
        "data/decode", "data/sample", "flow/RAFT", "flow/DIS", "predict/T=0", "predict/T=2", "predict/T=4",
        "predict/T=14", "train_step", "evaluate", "fid", "video_targets/naive", "video_targets/kept",
        "internal/step/Base", "internal/fill/Base", "internal/step/CoarseToFine", "internal/fill/CoarseToFine",
        "internal/ambiguity",
    ]
    for case in report["cases"].values():
        assert len(case["seconds"]) == 1 and case["median"] > 0 and case["unit"]
    cases = report["cases"]
    flops = [cases[f"predict/T={count}"]["flops"] for count in (0, 2, 4, 14)]
    assert flops[0] < flops[1] and flops[3] - flops[1] == 6 * (flops[2] - flops[1]) > 0  # each keyframe adds the same
    assert cases["train_step"]["flops"] > 2 * flops[1]
    assert cases["fid"]["flops"] is None
    # What docs/internal.md says of the networks: multiply-adds per pixel.
    for kind, expected in ("Base", 166_000), ("CoarseToFine", 383_000):
        assert cases[f"internal/fill/{kind}"]["flops"] / 2 / (40 * 60) == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
def test_video_leaves_the_generator_something_to_do(settings):
    with Parts(settings) as parts:
        ((name, result),) = PATHS["video"](parts)
    assert name == "video" and result.unit == "frame" and len(result.seconds) == 1
    assert result.flops > 0 and any("14 guides" in note for note in result.notes)


@pytest.mark.slow
def test_kept_streams_give_the_same_with_less_work(report):
    naive, kept = (report["cases"][f"video_targets/{name}"] for name in ("naive", "kept"))
    assert kept["findings"]["largest difference of outputs"] < 1e-5
    assert kept["findings"]["standard deviation of outputs"] > 0.01
    assert kept["findings"]["keyframe passes of a target, kept"] == 4
    assert kept["findings"]["naive / kept: ratio"] == pytest.approx(naive["median"] / kept["median"])
    assert kept["flops"] < 0.6 * naive["flops"]


def test_the_untrained_generator_looks_at_its_keyframes(settings):
    with Parts(settings) as parts, torch.no_grad():
        x = torch.rand(1, 3, 4, 32, 32)
        inputs = x[:, 0], x[:, 1:], 0 * x[:, 1:, :2], 0 * x[:, 1:, :1]
        difference = parts.generator(*inputs) - parts.generator(inputs[0], inputs[1].flip(-1), *inputs[2:])
        assert difference.abs().max() > 1e-3


def test_scene_pans_and_has_holes_once_all_guides_are_there(settings):
    with Parts(settings) as parts:
        frames = [scene(parts, number) for number in (0, 1, FIRST - 1, FIRST)]
    assert [bool(mask.any()) for _, mask in frames] == [False, False, False, True]
    assert frames[0][0].shape == (40, 60, 3) and frames[0][1].shape == (40, 60)
    assert np.array_equal(frames[0][0][:, 2:], frames[1][0][:, :-2]) or np.array_equal(
        frames[0][0][:, :-2], frames[1][0][:, 2:])


def test_settings_name_what_is_wrong(settings):
    for name, value in ("batch_size", 0), ("repeats", 0), ("size", 8), ("precision", "8"), ("precision", "16-mixed"):
        with pytest.raises(InputError, match=name):
            Settings(config=settings.config, device=CPU, **{name: value})


# Reports --------------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_file_table_and_no_paths_of_this_machine(report, tmp_path, capsys):
    write_json(tmp_path / "a.json", report)
    assert read_report(tmp_path / "a.json") == json.loads(json.dumps(report))
    text = (tmp_path / "a.json").read_text()
    assert str(Path.home()) not in text and "/tmp" not in text and "photograph.jpg" not in text
    print_table(benchmark_table(report))
    printed = capsys.readouterr().out
    assert all(name in printed for name in report["cases"]) and "GFLOP/s" in printed
    assert any("sample / decoding" in line for line in remarks(report))


@pytest.mark.slow
def test_comparison(report, tmp_path, run_script):
    other = copy.deepcopy(report)
    for name, factor in ("fid", 2.0), ("train_step", 0.5):
        case = other["cases"][name]
        case["seconds"], case["median"] = [factor * s for s in case["seconds"]], factor * case["median"]
    del other["cases"]["evaluate"]
    other["machine"]["threads"], other["settings"]["size"] = 99, 512
    table = comparison_table(report, other, ("old", "new"))
    rows = {row[0].split(",")[0]: (number, row) for number, row in enumerate(table.rows)}
    assert rows["fid"][1][5] == "2" and rows["train_step"][1][5] == "0.5" and rows["evaluate"][1][5] == ""
    assert {name: table.marks[number, 5] for name, (number, _) in rows.items() if (number, 5) in table.marks} == {
        "fid": "worse", "train_step": "better"}
    lines = differences(report, other)
    assert f"settings, size: A {report['settings']['size']}, B 512" in lines
    assert any(line.startswith("machine, threads") for line in lines)
    for name, content in ("old", report), ("new", other):
        write_json(tmp_path / f"{name}.json", content)
    status, printed = run_script("benchmark")("--compare", tmp_path / "old.json", tmp_path / "new.json")
    assert status == 0 and "A: old" in printed.out and "differs: settings, size" in printed.out


def test_bad_input_is_one_line(tmp_path, run_script, report):
    (tmp_path / "text.json").write_text("no")
    (tmp_path / "other.json").write_text("{}")
    broken = copy.deepcopy(report)
    broken["cases"]["fid"]["seconds"] = ["quick"]
    write_json(tmp_path / "broken.json", broken)
    for name, message in ("missing", "No such file"), ("text", "not JSON"), ("other", "mapping"), ("broken", "fid"):
        with pytest.raises(InputError, match=message):
            read_report(tmp_path / f"{name}.json")
    for arguments, message in ((), "nothing to do"), (("--config", "x.yaml", "--out", "a.txt"), ".json"), (
            ("--config", "x.yaml", "--threads", "0"), "--threads"), (("--paths", "nothing"), "expected one of data"):
        status, printed = run_script("benchmark")(*arguments)
        assert status == 2 and message in printed.err and printed.err.count("\n") == 1


@pytest.mark.slow
def test_the_script_runs_a_path(root, monkeypatch, run_script, tmp_path):
    monkeypatch.setattr("tools.benchmark.report.measure_limits", lambda *args: Limits(1e11, 1e10))
    config, out = tmp_path / "c.yaml", tmp_path / "r.json"
    config.write_text((root / "tests" / "tiny.yaml").read_text().replace("???", "unused"))
    status, printed = run_script("benchmark")("--config", config, "--paths", "predict", "--repeats", 1, "--size", 32,
                                          "--device", "cpu", "--precision", "bf16-mixed", "--out", out)
    assert status == 0 and "predict/T=14" in printed.out
    assert read_report(out)["settings"]["precision"] == "bf16-mixed"


def test_duration():
    assert [duration(s) for s in (2.5, 0.0123, 4e-6)] == ["2.5 s", "12.3 ms", "4 us"]
    assert math.isclose(float(duration(0.5).split()[0]), 500)
