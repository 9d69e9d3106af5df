"""The command `gi`: what is quick stays quick, what users are told, where values of a configuration come from."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gi.__main__ import COMMANDS, main
from gi.commands.arguments import parse_args
from gi.config import load_config
from gi.config.origins import with_origins
from gi.errors import InputError, MissingFile
from gi.main import main as train
from gi.training.callbacks import RunProgress
from gi.weights.fetch import expect_weights

HELP = """
import contextlib, io, sys
from gi.__main__ import COMMANDS, main
for words in [], ["--version"], *([name, "--help"] for name in COMMANDS):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            main(words)
        except SystemExit as end:
            assert not end.code, words
    print(" ".join(words), len(said.getvalue().splitlines()))
slow = {"torch", "torchvision", "pytorch_lightning"} & sys.modules.keys()
assert not slow, slow
"""


def test_help_is_quick_and_fits_a_screen(root):
    """Without importing torch, which takes seconds."""
    done = subprocess.run([sys.executable, "-c", HELP], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = {name: int(number) for name, number in re.findall(r"(.*) (\d+)\n", done.stdout)}
    assert lines.keys() == {"", "--version", *(f"{name} --help" for name in COMMANDS)}
    assert all(0 < number <= 48 for number in lines.values()) and lines[""] == len(COMMANDS) + 2


def test_help_on_a_console_without_its_signs(root):
    done = subprocess.run([sys.executable, "-m", "gi", "--help"], cwd=root, capture_output=True, text=True,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and done.stdout.startswith("usage: gi COMMAND"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_names_that_are_no_text_are_one_line(arguments, tmp_path):
    """As the shell hands over names whose bytes are not UTF-8."""
    with pytest.raises(InputError, match="data.root: .* is not valid YAML"):
        train([*arguments(), "data.root=\udcff"])
    with pytest.raises(InputError, match="expected a name in UTF-8"):
        train([*arguments(), "--name", "\udcff"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word, message", [("inpant", "did you mean inpaint?"), ("xyz", "gi --help lists them")])
def test_no_such_command(word, message, capsys):
    with pytest.raises(SystemExit) as end:
        main([word])
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("script", ["gi/main.py", "scripts/inpaint.py"])
def test_a_python_without_the_packages_is_told_what_to_do(root, script, tmp_path):
    done = subprocess.run([sys.executable, "-S", root / script, "--base", "x.yaml"], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert re.match(r"error: this Python, .*, has no module \w+: .*(activate|pip install)", done.stderr)


def test_ctrl_c_while_packages_are_imported(monkeypatch, capsys):
    monkeypatch.setattr("importlib.import_module", _interrupted)
    with pytest.raises(SystemExit) as end:
        main(["inpaint"])
    assert end.value.code == 130 and capsys.readouterr().err == "interrupted\n"


def _interrupted(name):
    raise KeyboardInterrupt


def test_sigterm_is_ctrl_c(root):
    """Which lets a video's fit save its state, see `tests/internal/test_method.py`."""
    program = ("import os, signal, gi.commands.fetch as module; from gi.__main__ import main\n"
               "module.main = lambda argv: os.kill(os.getpid(), signal.SIGTERM)\n"
               "main(['fetch'])")
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


# Arguments of gi test -------------------------------------------------------------------------------------------------

def test_what_gi_test_is_given(tmp_path):
    run = tmp_path / "run"
    for name in ("configs/config.yaml", "checkpoints/last.ckpt", "elsewhere.ckpt"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).touch()
    inside, outside = run / "checkpoints" / "last.ckpt", run / "elsewhere.ckpt"

    def parsed(*words):
        args = parse_args([str(word) for word in words], test=True)
        assert not args.train and args.test
        return args.resume, args.resume_from_checkpoint, args.base

    assert parsed(run) == (run, None, []) and parsed(inside) == (inside, None, [])
    assert parsed(outside, "--base", "a.yaml") == (None, outside, [Path("a.yaml")])
    assert parsed("--base", "a.yaml", outside) == (None, outside, [Path("a.yaml")])
    assert parsed("--base", "a.yaml", "--limit_test_batches", 3, "seed=1") == (None, None, [Path("a.yaml")])
    for words, message in (([outside], "name its configuration"), ([tmp_path / "x"], "no such run or checkpoint"),
                           ([run, "--base", "a.yaml", outside], "expected one"), ([], "nothing to do: give a run")):
        with pytest.raises(InputError, match=message):
            parsed(*words)


# Configurations -------------------------------------------------------------------------------------------------------

def test_every_value_has_the_file_it_comes_from(tmp_path, monkeypatch):
    (tmp_path / "low.yaml").write_text("seed: 3\nmodel: {target: a.B, params: {x: 1, y: [1], z: \"1e-5\", w: 1.0e-5}}")
    (tmp_path / "mid.yaml").write_text("inherit: low.yaml\nmodel: {params: {x: 2, text: \"a\\nb\"}}\n")
    (tmp_path / "other.yaml").write_text("inherit: low.yaml\ndata: {target: c.D, params: {ref: '${model.params.x}'}}\n")
    monkeypatch.chdir(tmp_path)
    text = with_origins(["mid.yaml", "other.yaml"], ["model.params.y.0=7", "data.params.new={k: 1}"])
    found = dict(re.findall(r"^ *(\w+): .*  # (.*)$", text, re.MULTILINE))
    # The second file has x of low.yaml below it, so that it is on top of what the first one says.
    assert found == {"seed": "low.yaml", "target": "other.yaml", "x": "low.yaml", "y": "command line", "z": "low.yaml",
                     "w": "low.yaml", "text": "mid.yaml", "ref": "other.yaml", "k": "command line"}
    (tmp_path / "merged.yaml").write_text(text)
    overrides = ["model.params.y.0=7", "data.params.new={k: 1}"]
    assert load_config("merged.yaml") == load_config(["mid.yaml", "other.yaml"], overrides)
    assert with_origins(["merged.yaml"]).count("merged.yaml") == len(found) + 1


def test_print_config_runs_nothing(arguments, tmp_path, capsys):
    assert train(arguments("--print-config", "--max_steps=3", "--seed=5")) == {}
    printed = capsys.readouterr().out
    assert "max_steps: 3  # command line" in printed and "seed: 5  # command line" in printed
    assert not (tmp_path / "logs").exists()


def test_a_configuration_that_comes_along_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "data" in load_config("configs/ours.yaml")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "ours.yaml").write_text("seed: 7")
    assert load_config("configs/ours.yaml") == {"seed": 7}
    for name in ("configs/none.yaml", "configs/../configs/demo.yaml", "setup.py"):
        with pytest.raises(MissingFile):
            load_config(name)


# What a run says ------------------------------------------------------------------------------------------------------

def test_all_missing_weights_are_told_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GI_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    raft, perceptual = {"target": "gi.flow.estimate.RAFT"}, {"target": "gi.losses.perceptual.PerceptualLoss"}
    with pytest.raises(MissingFile, match=r"^2 files .*raft-things.pth \(raft\).*encoder_epoch_20.pth \(ade20k\)"):
        expect_weights({"flow": raft, "loss": perceptual}, "model")
    expect_weights({"flow": raft}, "model")  # says more about the one it lacks


def test_a_run_is_tested_with_its_own_configuration(arguments, tmp_path, capsys):
    ablation = "model.params.generator.params.ngf=8"
    train(arguments(ablation, "--max_steps=1"))
    (run,) = (tmp_path / "logs").iterdir()
    with pytest.raises(InputError, match=f"misshapen.*repeat the overrides.*gi test {run} "):
        train(arguments("--train=false", f"--resume_from_checkpoint={run}/checkpoints/last.ckpt"))
    with pytest.raises(SystemExit) as end:
        main(["test", "--allow=tests", str(run), "--limit_test_batches=1"])
    assert end.value.code == 0 and (run / "metrics" / "small.json").is_file()


def test_progress_in_a_file_is_lines(arguments, capsys, monkeypatch):
    monkeypatch.setattr(RunProgress, "interval", 0.0)
    train(arguments("--max_steps=2", "--no-test=false", "--enable_progress_bar=true"))
    said = capsys.readouterr().err
    assert "\r" not in said
    for line in ("step 1/2, ", "step 2/2, ", "test batch 1/"):
        assert sum(text.startswith(line) for text in said.splitlines()) == 1
