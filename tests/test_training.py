"""The training loop: every family, accumulation, schedule, averaging, kills, signals, nan, several processes."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from gi.config import allow
from gi.errors import InputError
from gi.main import main
from gi.training.callbacks import format_duration
from gi.training.module import GuidedInpainting, NonFiniteLoss
from gi.training.schedule import warmup_cosine
from gi.weights.checkpoint import load_generator
from gi.weights.unpickle import read_checkpoint
from tests.families import MODELS, tiny_node

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests" / "tiny.yaml"
allow("tests.helpers")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """A folder of ten smooth pictures."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for i in range(10):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((48, 44), Image.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def arguments(photographs, tmp_path):
    """Function: overrides -> arguments of main for a tiny run in its own folder of tmp_path."""

    def build(*overrides, base=TINY, logdir="logs"):
        return [f"--base={base}", f"--logdir={tmp_path / logdir}", "--no-test", *_roots(photographs), *overrides]

    return build


def _roots(photographs):
    places = ("train", "validation.small", "test.small")
    return [f"data.params.{place}.params.images.params.root={photographs}" for place in places]


def callback(name, **params):
    target = f"lightning.callbacks.{name.lower()}.target=tests.helpers.{name}"
    return [target, *(f"lightning.callbacks.{name.lower()}.params.{key}={value}" for key, value in params.items())]


def last_checkpoint(logs):
    (path,) = Path(logs).glob("*/checkpoints/last.ckpt")
    return read_checkpoint(path)


def start(arguments):
    """The program as a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "gi/main.py", "--allow=tests.helpers", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def finish(process, status=0):
    output, _ = process.communicate(timeout=180)
    assert process.returncode == status, output
    return output


def wait_for(path, process):
    give_up = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < give_up, process.communicate()[0]
        time.sleep(0.05)


# The loop -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_one_step_of_every_family(name, arguments, tmp_path):
    """One step trains every parameter, with keyframes where the configuration has them."""
    n_sources = 0 if "unguided" in name else 2
    config = {"inherit": str(TINY), "model": {"params": {"generator": tiny_node(name)}}}
    config["data"] = {"params": {"train": {"params": {"n_sources": n_sources}}}}
    (tmp_path / "family.yaml").write_text(yaml.safe_dump(config))
    saved = tmp_path / "gradients.pt"
    main(arguments("--max_steps=1", "--limit_val_batches=0", *callback("SaveGradients", path=saved),
                   base=tmp_path / "family.yaml"))
    gradients = torch.load(saved)
    expected = load_generator(tmp_path / "family.yaml", next(tmp_path.glob("logs/*/checkpoints/last.ckpt")))
    for network, names in (("generator", dict(expected.named_parameters())), ("discriminator", None)):
        (step,) = gradients[network]
        # What the deformable write's query adds for all keyframes alike cancels in its softmax.
        alike = {key for key in names or () if key.endswith("query.bias") and "deformable" in key}
        assert names is None or step.keys() == names.keys() - alike
        # A bias before a BatchNorm has no effect, a softmax over patches of one pixel has no gradient.
        blind = [key for key, value in step.items() if not value.abs().max() > 0]
        assert [key for key in blind if not key.endswith("bias") and "read.scores" not in key] == []


def test_train_and_test(arguments, tmp_path):
    """Everything a run leaves behind; the checkpoint is complete, and gives the same generator."""
    words = [word for word in arguments("--max_steps=5") if word != "--no-test"]
    results = main(words)
    assert set(results) == {"small"}
    scalars = results["small"].scalars()
    assert 0 < scalars["ssim"] <= 1 and np.isfinite(scalars["psnr_hole"])
    content = last_checkpoint(tmp_path / "logs")
    assert content["global_step"] == 5
    assert not [key for key in content["state_dict"] if not key.startswith(("generator.", "discriminator."))]
    (logdir,) = (tmp_path / "logs").iterdir()
    assert [path.name for path in logdir.rglob("*.ckpt")] == ["last.ckpt"]
    generator = load_generator(logdir / "configs" / "config.yaml", logdir / "checkpoints" / "last.ckpt")
    again = main([f"--base={logdir / 'configs' / 'config.yaml'}", "--train", "false", f"--logdir={tmp_path / 'other'}",
                  f"--resume_from_checkpoint={logdir / 'checkpoints' / 'last.ckpt'}"])
    assert not generator.training
    assert again["small"].scalars() == pytest.approx(scalars, nan_ok=True)


def test_accumulation_is_one_large_batch(arguments, tmp_path):
    """Ten photographs: batches of 2 in windows of 2 leave a last window of one batch."""
    words = ["--max_epochs=1", "--max_steps=-1", "--limit_val_batches=0", *callback("FreezeNorm")]
    for name, option in (("a", "--accumulate_grad_batches=2"), ("b", "data.params.batch_size=4")):
        main(arguments(*words, option, *callback("SaveGradients", path=tmp_path / f"{name}.pt"), logdir=name))
    accumulated, large = torch.load(tmp_path / "a.pt"), torch.load(tmp_path / "b.pt")
    assert len(accumulated["generator"]) == len(accumulated["discriminator"]) == 3  # 4 + 4 + 2 samples
    for network in ("generator", "discriminator"):
        assert_close_gradients(accumulated[network][0], large[network][0])
    assert last_checkpoint(tmp_path / "a")["global_step"] == 3  # steps of the generator only


def assert_close_gradients(a, b, tolerance=1e-4):
    assert a.keys() == b.keys()
    for key in a:
        scale = b[key].abs().max()
        assert (a[key] - b[key]).abs().max() <= tolerance * scale + 1e-7, key


def test_learning_rate_and_schedule(arguments, tmp_path, caplog):
    with caplog.at_level("INFO"):
        main(arguments("--max_steps=2", "--accumulate_grad_batches=2", "--limit_val_batches=0"))
    assert "learning rate 0.0004 = 0.0001 x batch 2 x 1 process(es) x 2 accumulated batch(es)" in caplog.text
    content = last_checkpoint(tmp_path / "logs")
    assert [o["param_groups"][0]["initial_lr"] for o in content["optimizer_states"]] == pytest.approx([4e-4, 4e-5])
    expected = 4e-4 * warmup_cosine(2, warmup=2, end=20)
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(expected)


def test_warmup_cosine():
    assert warmup_cosine(0) == pytest.approx(1e-4)
    assert warmup_cosine(500) == pytest.approx(0.5, abs=1e-3)
    assert warmup_cosine(1000) == 1
    assert warmup_cosine(500_500) == pytest.approx((1 + 1e-4) / 2)
    assert warmup_cosine(1_000_000) == warmup_cosine(2_000_000) == pytest.approx(1e-4)


def test_weight_average(arguments, tmp_path):
    """The average of the last weights, with the decay given; evaluation and load_generator use it."""
    words = ["model.params.average_decay=0.5", "model.params.average_every=1", "model.params.average_start=3"]
    weights = []
    for steps in (3, 4):
        main(arguments(*words, f"--max_steps={steps}", "--limit_val_batches=0", logdir=str(steps)))
        weights.append(last_checkpoint(tmp_path / str(steps))["state_dict"])
    for key in (key for key in weights[0] if key.startswith("generator.") and key.endswith("weight")):
        mean = 0.5 * weights[0][key] + 0.5 * weights[1][key]
        torch.testing.assert_close(weights[1][key.replace("generator.", "average.module.")], mean)
    path = next((tmp_path / "4").glob("*/checkpoints/last.ckpt"))
    generator = load_generator(path.parents[1] / "configs" / "config.yaml", path)
    torch.testing.assert_close(generator.latents, weights[1]["average.module.latents"])


def test_second_generator_pass(arguments, tmp_path):
    """The original's order lets the discriminator see the updated generator, which changes only its own gradients."""
    for passes in (1, 2):
        main(arguments(f"model.params.generator_passes={passes}", "--max_steps=2", "--limit_val_batches=0",
                       "model.params.base_lr=0.01", *callback("SaveGradients", path=tmp_path / f"{passes}.pt"),
                       logdir=str(passes)))
    one, two = torch.load(tmp_path / "1.pt"), torch.load(tmp_path / "2.pt")
    assert_close_gradients(one["generator"][0], two["generator"][0], tolerance=1e-6)
    difference = one["discriminator"][1]["head.weight"] - two["discriminator"][1]["head.weight"]
    assert difference.abs().max() > 1e-6


def test_gradient_clipping(arguments, tmp_path):
    norms = {}
    for value in ("null", 0.5):
        main(arguments(f"--gradient_clip_val={value}", "--max_steps=1", "--limit_val_batches=0", logdir=str(value)))
        # Adam's first moment after one step is (1 - beta1) times the gradient it was given.
        state = last_checkpoint(tmp_path / str(value))["optimizer_states"][0]["state"]
        norms[value] = sum((10 * entry["exp_avg"]).square().sum() for entry in state.values()).sqrt().item()
    assert norms["null"] > 1
    assert norms[0.5] == pytest.approx(0.5, rel=1e-3)


def test_bfloat16(arguments, tmp_path):
    main(arguments("--precision=bf16-mixed", "--max_steps=2", "--limit_val_batches=1"))
    weights = last_checkpoint(tmp_path / "logs")["state_dict"]
    assert all(torch.isfinite(value).all() and value.dtype != torch.bfloat16 for value in weights.values())


@pytest.mark.parametrize("option", ["channels_last", pytest.param("compile", marks=pytest.mark.slow)])
def test_faster_is_the_same(arguments, tmp_path, monkeypatch, option):
    # The graphs are what is looked at: making code of them takes minutes.
    whole = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *args, **kwargs: whole(*args, **kwargs, backend="eager"))
    for value in ("false", "true"):
        main(arguments(f"model.params.{option}={value}", "--max_steps=1", "--limit_val_batches=0",
                       *callback("SaveGradients", path=tmp_path / f"{value}.pt"), logdir=value))
    plain, laid_out = (torch.load(tmp_path / f"{value}.pt") for value in ("false", "true"))
    for network in ("generator", "discriminator"):
        # Without biases: before a BatchNorm, their gradients are nothing but rounding.
        steps = [{key: value for key, value in run[network][0].items() if not key.endswith("bias")}
                 for run in (laid_out, plain)]
        assert_close_gradients(*steps, tolerance=1e-3)
    weights = laid_out["discriminator"][0]["stages.1.0.weight"]
    laid_out = option == "channels_last"
    assert weights.is_contiguous(memory_format=torch.channels_last) == laid_out
    assert weights.is_contiguous() != laid_out


@pytest.mark.parametrize("device, laid_out", [("cpu", True), ("cuda", True), ("mps", False)])
def test_layout_of_weights_by_device(device, laid_out):
    module = GuidedInpainting(generator=torch.nn.Conv2d(4, 4, 3), guidance=torch.nn.Identity(), average_decay=0.5,
                              channels_last=True)
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
    for stage in "test", "fit":
        module.setup(stage)
        for weights in module.generator.weight, module.average.module.weight:
            assert weights.is_contiguous(memory_format=torch.channels_last) == (laid_out and stage == "fit")


def test_nan_stops_and_names_the_term(arguments, tmp_path):
    with pytest.raises(NonFiniteLoss, match="loss term 'l1' is nan at optimiser step 7"):
        main(arguments(*callback("Poison", at_step=6)))
    content = last_checkpoint(tmp_path / "logs")
    assert content["global_step"] == 6  # neither that of step 8 nor that of the end was written over it
    assert all(torch.isfinite(value).all() for value in content["state_dict"].values())


def test_a_bad_photograph_is_one_line(arguments, photographs, tmp_path):
    """Also when a worker process meets it."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "broken.png").write_bytes((photographs / "0.png").read_bytes()[:500])
    for i in range(2):
        (folder / f"{i}.png").symlink_to(photographs / f"{i}.png")
    words = [f"data.params.train.params.images.params.root={folder}", "data.params.num_workers=1"]
    output = finish(start(arguments(*words, "--limit_val_batches=0")), status=2)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "broken.png" in line


def test_nothing_to_evaluate(arguments):
    with pytest.raises(InputError, match="nothing to evaluate"):
        main(arguments("--train", "false"))


# Interruptions --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def uninterrupted(photographs, tmp_path_factory):
    """Weights after 8 steps in epochs of 5, and the samples on the way."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    names = callback("RecordNames", path=folder / "names.txt")
    finish(start([f"--base={TINY}", f"--logdir={folder}/logs", "--no-test", *_roots(photographs), *names]))
    return last_checkpoint(folder / "logs")["state_dict"], (folder / "names.txt").read_text().splitlines()


@pytest.mark.parametrize("stop, status, resumed_at", [
    (signal.SIGKILL, -signal.SIGKILL, 2), (signal.SIGTERM, 143, 4), (signal.SIGUSR1, 138, 4),
])  # fmt: skip
def test_interrupted_run_resumes_exactly(stop, status, resumed_at, uninterrupted, arguments, tmp_path):
    """Stopped in the middle of the first epoch, after step 3; the last regular checkpoint was at step 2."""
    weights, names = uninterrupted
    marker, until = tmp_path / "paused", tmp_path / "go"
    pause = callback("Pause", at_step=3, marker=marker, until=until)
    process = start(arguments(*pause, *callback("RecordNames", path=tmp_path / "names.txt")))
    wait_for(marker, process)
    process.send_signal(stop)
    if stop != signal.SIGKILL:
        until.touch()
    output = finish(process, status)
    assert stop == signal.SIGKILL or "state saved" in output
    assert last_checkpoint(tmp_path / "logs")["global_step"] == resumed_at
    (logdir,) = (tmp_path / "logs").iterdir()

    (tmp_path / "names.txt").unlink()
    finish(start(["-r", logdir if stop == signal.SIGKILL else logdir / "checkpoints" / "last.ckpt", "--no-test"]))
    resumed = last_checkpoint(tmp_path / "logs")["state_dict"]
    assert (tmp_path / "names.txt").read_text().splitlines() == names[resumed_at:]
    assert resumed.keys() == weights.keys()
    assert [key for key in weights if not torch.equal(resumed[key], weights[key])] == []


# Several processes ----------------------------------------------------------------------------------------------------


def test_two_processes_equal_one_with_the_joint_batch(arguments, tmp_path):
    words = ["--max_steps=3", "--limit_val_batches=0", *callback("FreezeNorm")]
    two = start(arguments(*words, "--devices=2", *callback("SaveGradients", path=tmp_path / "two.pt"), logdir="two"))
    output = finish(two)
    one = start(arguments(*words, "data.params.batch_size=4", *callback("SaveGradients", path=tmp_path / "one.pt"),
                          logdir="one"))
    finish(one)
    assert "learning rate 0.0004 = 0.0001 x batch 2 x 2 process(es)" in output
    assert len(list((tmp_path / "two").iterdir())) == 1  # one folder for both processes
    joint, shared = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    for network in ("generator", "discriminator"):
        assert len(shared[network]) == 3
        assert_close_gradients(shared[network][0], joint[network][0])
    weights = [last_checkpoint(tmp_path / name)["state_dict"] for name in ("one", "two")]
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], atol=1e-5, rtol=1e-3)


def test_format_duration():
    assert [format_duration(s) for s in (59.9, 3700, 200_000, -1)] == ["0:59", "1h01m", "2d07h", "0:00"]
