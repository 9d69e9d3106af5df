"""The run for graphics cards: steps that fail, take too long or are stopped; all of it, tiny and on the CPU."""
import json
import os
import signal
import time

import pytest
import torch

from gi.config import instantiate, load_config
from gi.errors import InputError
from gi.media.io import write_image
from tests.test_gpu import smooth
from tools.gpu import __main__ as program
from tools.gpu import checks, settings, training
from tools.gpu.steps import Recorder, Step, Stopped


def read(out):
    return json.loads((out / "report.json").read_text())


def test_a_failing_step_is_recorded_and_the_others_run(tmp_path):
    def failing(result):
        result["half"] = 1
        raise ValueError("no such kernel")

    recorder = Recorder(tmp_path, minutes=1, settings={"batch": 2})
    recorder.run([Step("first", failing, 0, 10), Step("second", lambda result: result.update(value=2), 0, 10)])
    steps = read(tmp_path)["steps"]
    assert steps["first"]["status"] == "failed" and steps["first"]["result"] == {"half": 1}
    assert steps["first"]["error"]["type"] == "ValueError" and steps["first"]["error"]["message"] == "no such kernel"
    assert any("in failing" in line for line in steps["first"]["error"]["traceback"])
    assert steps["second"]["status"] == "done" and steps["second"]["result"] == {"value": 2}
    assert read(tmp_path)["complete"] and "no such kernel" in (tmp_path / "log.txt").read_text()


def test_steps_end_in_time_even_if_they_catch_everything(tmp_path):
    def slow(result):
        while True:
            try:
                time.sleep(10)
            except Exception:
                pass

    recorder = Recorder(tmp_path, minutes=1, settings={})
    start = time.monotonic()
    recorder.run([Step("slow", slow, 0, 0.2), Step("long", slow, 100, 200), Step("last", lambda result: None, 0, 10)])
    assert time.monotonic() - start < 5
    steps = read(tmp_path)["steps"]
    assert [step["status"] for step in steps.values()] == ["out of time", "skipped", "done"]
    assert "100 s needed" in steps["long"]["note"]


def test_sigterm_writes_what_is_there(tmp_path):
    def stopped(result):
        result["before"] = 1
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    recorder = Recorder(tmp_path, minutes=1, settings={})
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped):
        recorder.run([Step("first", stopped, 0, 10), Step("second", stopped, 0, 10)])
    report = read(tmp_path)
    assert report["steps"]["first"]["status"] == "stopped" and report["steps"]["first"]["result"] == {"before": 1}
    assert report["steps"]["second"]["status"] == "skipped" and not report["complete"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_check_sees_a_difference_between_processors():
    class Wrong(torch.nn.Linear):
        calls = 0

        def forward(self, x):
            Wrong.calls += 1  # the first call is the reference
            return super().forward(x) * (1.0 if Wrong.calls == 1 else 1.01)

    result = {}
    check = checks.Checks(torch.device("cpu"), result, lambda line: None)
    check("right", torch.nn.Linear(4, 4), (torch.rand(2, 4),), modes=("float32",))
    check("wrong", Wrong(4, 4), (torch.rand(2, 4),), modes=("float32", "tf32"))
    assert result["right"]["float32"]["output"]["error"] == 0
    assert result["wrong"]["float32"]["output"]["error"] == pytest.approx(0.01, rel=1e-3)
    assert checks.failures(result) == ["wrong, float32"]  # 10 bits of mantissa could be that far off


def test_the_trained_network_is_small_enough_to_bring_back():
    override = f"model.params.generator.params.ngf={settings.full(16).train_width}"
    with torch.device("meta"):
        generator = instantiate(load_config([training.CONFIG], [override]).model.params.generator)
    assert 2 * sum(p.numel() for p in generator.parameters()) < 15 * 2**20  # 16 bits each


@pytest.mark.slow
def test_the_run_rehearsed(tmp_path, monkeypatch):
    """Machine, checks, timings and training; a check that fails costs nothing else."""
    def failing(*args):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    for i in range(3):
        (tmp_path / "photographs").mkdir(exist_ok=True)
        write_image(tmp_path / "photographs" / f"{i}.png", smooth(64, 72, seed=i))
    monkeypatch.setattr(checks, "check_losses", failing)
    chosen = ["machine", "check l", "check F", "train"]
    out = tmp_path / "out"
    status = program.main([f"--photographs={tmp_path / 'photographs'}", f"--out={out}", "--tiny", "--device=cpu",
                           "--minutes=3", "--only", *chosen])
    report = read(out)
    assert status == 1 and report["complete"]
    assert {name: step["status"] for name, step in report["steps"].items()} == {
        "machine": "done", "check losses": "failed", "check Fourier transforms": "done", "train": "done"}
    assert report["summary"]["steps"] == {"check losses": "failed"} and report["summary"]["checks"] == []
    assert report["steps"]["machine"]["result"]["torch"] == torch.__version__
    assert report["steps"]["check Fourier transforms"]["result"]["FFC 47x33"]["float32"]["gradient"]["error"] == 0
    trained = report["steps"]["train"]["result"]
    assert len(trained["curves"]["val/small/psnr_hole"][1]) >= 2
    assert 1000 < (out / "generator.safetensors").stat().st_size == trained["bytes of generator.safetensors"] < 2**24


def test_without_a_card_only_tiny(tmp_path):
    with pytest.raises(InputError, match="no CUDA device here; --tiny rehearses"):
        program.main([f"--photographs={tmp_path}", f"--out={tmp_path / 'out'}", "--device=cpu"])
