"""The training loop: every family, accumulation, schedule, averaging, terms of one's own, nan."""
import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from gi.errors import InputError
from gi.flow.guidance import Guidance
from gi.main import main
from gi.training import layout
from gi.training.callbacks import format_duration
from gi.training.module import GuidedInpainting, NonFiniteLoss
from gi.training.schedule import warmup_cosine
from gi.weights.checkpoint import load_generator
from tests.families import MODELS, tiny_node
from tests.helpers import assert_close_gradients
from tests.runs import TINY, callback, last_checkpoint

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
    handler = signal.getsignal(signal.SIGTERM)
    results = main(words)
    assert signal.getsignal(signal.SIGTERM) == handler
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
    """Ten photographs: batches of 2 in windows of 2 leave a last window of one batch. Validation may fall into one."""
    words = ["--max_epochs=1", "--max_steps=-1", *callback("FreezeNorm")]
    within = ["--accumulate_grad_batches=2", "--val_check_interval=1", "--limit_val_batches=1"]
    for name, options in (("a", within), ("b", ["data.params.batch_size=4", "--limit_val_batches=0"])):
        main(arguments(*words, *options, *callback("SaveGradients", path=tmp_path / f"{name}.pt"), logdir=name))
    accumulated, large = torch.load(tmp_path / "a.pt"), torch.load(tmp_path / "b.pt")
    assert len(accumulated["generator"]) == len(accumulated["discriminator"]) == 3  # 4 + 4 + 2 samples
    for network in ("generator", "discriminator"):
        assert_close_gradients(accumulated[network][0], large[network][0])
    assert last_checkpoint(tmp_path / "a")["global_step"] == 3  # steps of the generator only


def test_learning_rate_and_schedule(arguments, tmp_path, caplog):
    with caplog.at_level("INFO"):
        main(arguments("--max_steps=2", "--accumulate_grad_batches=2", "--limit_val_batches=0"))
    assert "learning rate 0.0004 = 0.0001 x batch 2 x 1 process(es) x 2 accumulated batch(es)" in caplog.text
    content = last_checkpoint(tmp_path / "logs")
    assert [o["param_groups"][0]["initial_lr"] for o in content["optimizer_states"]] == pytest.approx([4e-4, 4e-5])
    expected = 4e-4 * warmup_cosine(2, warmup=2, end=20)
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(expected)


def test_resuming_uses_the_configured_rates(arguments, tmp_path, caplog):
    main(arguments("--max_steps=2", "--limit_val_batches=0"))
    (logdir,) = (tmp_path / "logs").iterdir()
    with caplog.at_level("INFO"):
        main(["-r", str(logdir), "--no-test", "--max_steps=4", "data.params.batch_size=1",
              "model.params.betas=[0.5,0.9]", *callback("SaveRates", path=tmp_path / "rates.txt")])
    assert ("learning rates in the checkpoint: 0.0002 with betas (0.9, 0.999), 2e-05 with betas (0.9, 0.999); "
            "from here on: 0.0001 with betas (0.5, 0.9), 1e-05 with betas (0.5, 0.9)") in caplog.text
    rates = [float(line) for line in (tmp_path / "rates.txt").read_text().split()]
    assert rates == pytest.approx([1e-4 * warmup_cosine(step, warmup=2, end=20) for step in (2, 3)])
    content = last_checkpoint(tmp_path / "logs")
    for i, rate in enumerate((1e-4, 1e-5)):
        (group,), schedule = content["optimizer_states"][i]["param_groups"], content["lr_schedulers"][i]
        assert tuple(group["betas"]) == (0.5, 0.9)
        assert [group["initial_lr"], *schedule["base_lrs"]] == pytest.approx([rate, rate])
        assert group["lr"] == pytest.approx(rate * warmup_cosine(4, warmup=2, end=20))


def test_warmup_cosine():
    assert warmup_cosine(0) == pytest.approx(1e-4)
    assert warmup_cosine(500) == pytest.approx(0.5, abs=1e-3)
    assert warmup_cosine(1000) == 1
    assert warmup_cosine(500_500) == pytest.approx((1 + 1e-4) / 2)
    assert warmup_cosine(1_000_000) == warmup_cosine(2_000_000) == pytest.approx(1e-4)


def test_weight_average(arguments, tmp_path):
    """The average of the last weights and statistics, with the decay given; evaluation and load_generator use it."""
    words = ["model.params.average_decay=0.5", "model.params.average_every=1", "model.params.average_start=3"]
    weights = []
    for steps in (3, 4):
        main(arguments(*words, f"--max_steps={steps}", "--limit_val_batches=0", logdir=str(steps)))
        weights.append(last_checkpoint(tmp_path / str(steps))["state_dict"])
    for key in (key for key in weights[0] if key.startswith("generator.") and not key.endswith("_tracked")):
        mean = 0.5 * weights[0][key] + 0.5 * weights[1][key]
        torch.testing.assert_close(weights[1][key.replace("generator.", "average.module.")], mean)
    names = {key.replace("average.module.", "generator.") for key in weights[1] if key.startswith("average.module.")}
    assert names == {key for key in weights[1] if key.startswith("generator.")} and "average.n_averaged" in weights[1]
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


@pytest.mark.slow
def test_one_loss_scale_for_a_window(arguments, tmp_path):
    """fp16's scale doubles after each window, and is halved where gradients overflow; nothing else may show of it."""
    words = ["--accumulate_grad_batches=2", "--max_epochs=2", "--max_steps=-1", "--limit_val_batches=0",
             "model.params.average_decay=0.5", "model.params.average_every=1", "model.params.average_start=1"]
    scaling = {"plain": [], "scaled": callback("LossScale"), "overflow": callback("LossScale", at_step=1)}
    for name, more in scaling.items():
        main(arguments(*words, *more, *callback("SaveGradients", path=tmp_path / f"{name}.pt"), logdir=name))
    plain, scaled = torch.load(tmp_path / "plain.pt"), torch.load(tmp_path / "scaled.pt")
    for network in ("generator", "discriminator"):
        assert len(plain[network]) == len(scaled[network]) == 6
        assert_close_gradients(scaled[network][0], plain[network][0], tolerance=1e-5)
    content = {name: last_checkpoint(tmp_path / name) for name in ("plain", "scaled", "overflow")}
    assert [c.get("FloatScaling", {}).get("scale") for c in content.values()] == [None, 2.0**22, 2.0**20]
    # The generator's second step was left out, and counts; the discriminator made all of its own.
    for c in content.values():
        assert c["global_step"] == c["lr_schedulers"][0]["last_epoch"] == 6
        assert c["state_dict"]["average.n_averaged"] == 6
    steps = [[int(state["state"][0]["step"]) for state in c["optimizer_states"]] for c in content.values()]
    assert steps == [[6, 6], [6, 6], [5, 6]]
    assert all(torch.isfinite(value).all() for value in content["overflow"]["state_dict"].values())


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
    module = GuidedInpainting(generator=torch.nn.Conv2d(4, 4, 3), guidance=Guidance(), average_decay=0.5,
                              channels_last=True)
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
    for stage in "test", "fit":
        module.setup(stage)
        for weights in module.generator.weight, module.average.module.weight:
            assert weights.is_contiguous(memory_format=torch.channels_last) == (laid_out and stage == "fit")


def test_layout_is_measured_once_and_kept(arguments, tmp_path, monkeypatch, caplog):
    """The faster one, without any other trace; a resumed training keeps its own, whatever would be faster then."""
    monkeypatch.setattr(layout, "LEAST_STEPS", 4)
    measured, measure = [], layout.seconds_by_layout

    def channels_last_is_faster(*args):
        measured.append(measure(*args))
        return 2.0, 1.0

    monkeypatch.setattr(layout, "seconds_by_layout", channels_last_is_faster)
    main(arguments("--max_steps=4", "--limit_val_batches=0"))
    assert len(measured) == 1 and min(measured[0]) > 0
    assert "takes 2 s contiguous and 1 s with channels last" in caplog.text
    (logdir,) = (tmp_path / "logs").iterdir()
    main(["-r", str(logdir), "--no-test", "--max_steps=6"])
    assert len(measured) == 1
    main(arguments("--max_steps=6", "--limit_val_batches=0", "model.params.channels_last=true", logdir="true"))
    expected, found = (last_checkpoint(tmp_path / name)["state_dict"] for name in ("true", "logs"))
    assert layout.is_channels_last(expected) and layout.is_channels_last(found)
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


def test_nan_stops_and_names_the_term(arguments, tmp_path):
    with pytest.raises(NonFiniteLoss, match="loss term 'l1' is nan at optimiser step 7"):
        main(arguments(*callback("Poison", at_step=6)))
    content = last_checkpoint(tmp_path / "logs")
    assert content["global_step"] == 6  # neither that of step 8 nor that of the end was written over it
    assert all(torch.isfinite(value).all() for value in content["state_dict"].values())


def test_nothing_to_evaluate(arguments):
    with pytest.raises(InputError, match="nothing to evaluate"):
        main(arguments("--train", "false"))


# Loss terms -----------------------------------------------------------------------------------------------------------


TERM = """
from torch import nn

class Brightness(nn.Module):
    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def forward(self, prediction, batch, discriminated):
        return self.weight * (prediction.mean() - batch["image"].mean()).abs()
"""


def test_a_new_term_is_a_file_and_a_line(arguments, tmp_path, monkeypatch):
    (tmp_path / "my_terms").mkdir()
    (tmp_path / "my_terms" / "brightness.py").write_text(TERM)
    monkeypatch.syspath_prepend(tmp_path)
    terms = "model.params.objective.params.terms"
    (tmp_path / "mine.yaml").write_text(f"inherit: {TINY}\n" + """
model: {params: {objective: {params: {terms: {
    brightness: {target: my_terms.brightness.Brightness, params: {weight: 100}}}}}}}
""")
    losses = []
    for name, weight in (("a", 100), ("b", 300)):
        path = tmp_path / f"{name}.txt"
        main(arguments("--allow=my_terms", "--max_steps=2", "--limit_val_batches=0", f"{terms}.adversarial=null",
                       f"{terms}.brightness.params.weight={weight}", f"{terms}.l1.params.weight=0",
                       *callback("SaveLosses", path=path), base=tmp_path / "mine.yaml", logdir=name))
        losses.append([json.loads(line) for line in path.read_text().splitlines()])
    assert [len(steps) for steps in losses] == [2, 2]
    of_discriminator = {f"train/discriminator_{name}" for name in ("real", "fake", "gradient_penalty")}
    assert losses[0][0].keys() == {"train/brightness", "train/feature_matching"} | of_discriminator
    first, weighted = (steps[0]["train/brightness"] for steps in losses)
    assert first > 0 and weighted == pytest.approx(3 * first, rel=1e-5)


@pytest.mark.parametrize("words, message", [
    (["model.params.discriminator=null"], "model: objective.params.terms.adversarial: needs a discriminator"),
    (["model.params.objective.params.terms.perceptual.target=gi.losses.perceptual.PerceptualLoss",
      "model.params.objective.params.terms.perceptual.params.weights=/nowhere.pth"],
     "model.params.objective.params.terms.perceptual: /nowhere.pth: no such file; gi fetch ade20k gets it"),
])  # fmt: skip
def test_a_term_that_cannot_be_built_is_one_line(words, message, arguments):
    with pytest.raises(InputError) as error:
        main(arguments(*words))
    assert message in str(error.value) and "\n" not in str(error.value)


# Resuming -------------------------------------------------------------------------------------------------------------


COPYING = """
model:
  params:
    average_decay: 0.5
    average_every: 1
    average_start: 0
    guidance:
      target: gi.flow.exact.ExactGuidance
      params:
        resolution: null
        share: 0.5
        noise: {target: gi.flow.exact.FlowNoise}
        estimator: {target: gi.flow.estimate.DIS}
    generator:
      target: gi.models.guided_copy.GuidedCopy
      params:
        pixel_width: 4
        network:
          target: gi.models.two_stream.TwoStreamGenerator
          params: {ngf: 4, n_down: 2, n_blocks: 2, n_cross: 1, n_latents: 16, latent_width: 16, heads: 4}
    discriminator: null
    objective: {params: {terms: {adversarial: null, feature_matching: null}}}
data: {params: {train: {params: {exact_flow: true}}}}
"""


def test_what_is_random_in_a_step_resumes_exactly(arguments, tmp_path):
    """Samples with estimated flow, and true flow with noise: as configs/small/ours_small.yaml has them."""
    (tmp_path / "copying.yaml").write_text(f"inherit: {TINY}\n{COPYING}")
    words = ["--max_steps=6", "--limit_val_batches=0"]
    main(arguments(*words, base=tmp_path / "copying.yaml", logdir="whole"))
    crash = callback("Crash", at_step=3, marker=tmp_path / "crashed")
    with pytest.raises(ConnectionAbortedError):
        main(arguments(*words, *crash, base=tmp_path / "copying.yaml"))
    assert last_checkpoint(tmp_path / "logs")["global_step"] == 3  # an error leaves the state, too
    (logdir,) = (tmp_path / "logs").iterdir()
    main(["-r", str(logdir), "--no-test"])
    expected, resumed = (last_checkpoint(tmp_path / name)["state_dict"] for name in ("whole", "logs"))
    assert resumed.keys() == expected.keys() and "average.module.pixel_write.head.0.weight" in expected
    assert [key for key in expected if not torch.equal(resumed[key], expected[key])] == []


def test_format_duration():
    assert [format_duration(s) for s in (59.9, 3700, 200_000, -1)] == ["0:59", "1h01m", "2d07h", "0:00"]
