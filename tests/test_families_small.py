"""The comparison of small networks: its configurations, and what it makes of finished runs."""
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gi.config import check, instantiate, load_config
from gi.errors import InputError
from gi.training.trainer import MODULE_OPTIONS
from gi.weights.unpickle import read_checkpoint
from tests.families import random_inputs
from tools import families, together
from tools.families import CONFIGS, Budget, gather, run_family

NAMES = families.families()


@pytest.mark.parametrize("name", NAMES)
def test_configuration(name):
    """Every family builds, predicts at any size, and shares all but its network with the others."""
    config = load_config([CONFIGS / f"{name}.yaml"])
    check(config, provided={"model": MODULE_OPTIONS})
    generator = instantiate(config.model.params.generator).eval()
    assert sum(p.numel() for p in generator.parameters()) < 5e6
    frames = config.data.params.train.params.parts.large.params.n_sources
    assert name.endswith("_unguided") <= (frames == 0)
    with torch.no_grad():
        assert generator(*random_inputs(1, frames, 50, 67)).shape == (1, 3, 50, 67)
    common = load_config([CONFIGS / "common.yaml"])
    if name in ("full_objective", "ours_small"):  # with a budget of their own
        return
    assert config.lightning == common.lightning and config.seed == common.seed
    own = {key: value for key, value in config.model.params.items() if key not in ("generator", "guidance")}
    assert own == {key: value for key, value in common.model.params.items() if key != "guidance"}


def fake_run(folder, name, scores):
    """What training and evaluating a family leaves, with the PSNR in the hole of each seed."""
    run = folder / name / f"2026-01-31T12-00-00_{name}"
    (run / "configs").mkdir(parents=True)
    (run / "configs" / "config.yaml").write_text(f"inherit: {CONFIGS / name}.yaml\n")
    (run / "checkpoints").mkdir()
    torch.save({"global_step": 5000, "callbacks": {"Report": {"training_seconds": 75.0}}},
               run / "checkpoints" / "last.ckpt")
    for seed, score in enumerate(scores):
        path = folder / name / "seeds" / f"2026-01-31T13-00-00_seed{seed}" / "metrics" / "comparison"
        path.mkdir(parents=True)
        for set_name in ("large_two", "large_four", "small_two", "small_four"):
            methods = {method: {key: {"mean": value, "std": 0.0} for key in families.MEASURES}
                       for method, value in (("keyframes", score), ("copy", 15.0), ("inpaint", None))}
            (path / f"{set_name}.json").write_text(json.dumps({"set": set_name, "methods": methods}))


def test_gathers_means_over_seeds(tmp_path):
    fake_run(tmp_path, "ours", [20.0, 22.0])
    fake_run(tmp_path, "lama", [18.0])
    tables, facts, _ = gather(["lama", "ours", "transformer"], tmp_path)
    assert [table.title for table in tables] == [f"Test set “{name}”" for name in
                                                 ("large_four", "large_two", "small_four", "small_two")]
    rows = {row[0]: row[1] for row in tables[0].rows}
    assert rows == {"lama": "18.00 ± 0.00", "ours": "21.00 ± 1.00", "keyframe copied along the flow": "15.00 ± 0.00",
                    "cv2.inpaint": "nan ± nan"}
    assert tables[0].marks == {(1, 1): "best", (1, 2): "best", (2, 3): "best"}  # all have the same values; less L1 is
    about = dict(facts)["ours"]
    assert "5,000 steps" in about and "1:15" in about and "parameters" in about
    text = (tmp_path / "report.md").read_text()
    assert "| ours | **21.00 ± 1.00** |" in text
    assert "Small networks" in (tmp_path / "report.html").read_text()
    assert b"</svg>" in (tmp_path / "curves.svg").read_bytes()
    assert json.loads((tmp_path / "results.json").read_text())["ours"]["1"]["large_two"]["copy"]["psnr_hole"] == 15.0


def test_what_is_complete_is_not_done_again(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(families, "_main", lambda *words: called.append([str(word) for word in words]))
    fake_run(tmp_path, "ours", [20.0, 22.0])
    budget = Budget(train=tmp_path / "a", test=tmp_path / "b", count=7, seeds=2)
    run_family("ours", tmp_path, budget)
    assert called == []
    run_family("ours", tmp_path, Budget(train=tmp_path, test=tmp_path, count=7, seeds=3))
    (words,) = called
    assert words[words.index("--train") + 1] == "false" and "data.params.test.small_four.params.length=7" in words
    assert "data.params.test.large_two.params.seed=2" in words
    torch.save({"global_step": 10}, next(tmp_path.glob("ours/*/checkpoints/last.ckpt")))
    called.clear()
    run_family("ours", tmp_path, budget)
    assert called[0][0] == "-r" and len(called) == 1


def test_second_stage_killed_before_its_first_checkpoint_begins_again_with_the_first_ones_weights(
        tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(families, "_main", lambda *words: called.append([str(word) for word in words]))
    fake_run(tmp_path, "ours_small", [20.0])
    left = [tmp_path / "ours_small" / f"{stage.stem}.safetensors" for stage in families.stages("ours_small")]
    for weights in left:
        weights.touch()
    last = next(tmp_path.glob("ours_small/*/checkpoints/last.ckpt"))
    budget = Budget(train=tmp_path, test=tmp_path, seeds=1)
    torch.save({"global_step": 10}, last)
    run_family("ours_small", tmp_path, budget)
    last.unlink()
    run_family("ours_small", tmp_path, budget)
    goes_on, begins = called
    assert goes_on[0] == begins[0] == "-r"
    assert "--resume_from_checkpoint" not in goes_on
    assert len(left) > 1 and begins[begins.index("--resume_from_checkpoint") + 1] == str(left[-1])


def test_interrupted_earlier_stage_goes_on(tmp_path, monkeypatch):
    """With its own state, not with the weights it began with."""
    called = []

    def ended(*words):
        called.append([str(word) for word in words])
        raise InputError("stopped")

    monkeypatch.setattr(families, "_main", ended)
    first, second, *_ = families.stages("ours_small")
    fake_run(tmp_path / "ours_small", second.stem, [])
    torch.save({"global_step": 10}, next(tmp_path.glob("ours_small/*/*/checkpoints/last.ckpt")))
    config = next(tmp_path.glob("ours_small/*/*/configs/config.yaml"))
    config.write_text(f"inherit: {second}\n")
    (tmp_path / "ours_small" / f"{first.stem}.safetensors").touch()
    with pytest.raises(InputError, match="stopped"):
        run_family("ours_small", tmp_path, Budget(train=tmp_path, test=tmp_path, seeds=1))
    assert called == [["-r", str(config.parents[1]), "--no_test"]]


def test_nan_and_zero_are_kept(tmp_path):
    fake_run(tmp_path, "ours", [0.0])
    scores = families.scores(tmp_path / "ours", 0)["large_two"]
    assert math.isnan(scores["inpaint"]["psnr_hole"]) and scores["keyframes"]["psnr_hole"] == 0


@pytest.mark.slow
def test_networks_trained_together_become_what_each_becomes_alone(tmp_path):
    """To the rounding of 16 bits: same weights at the start, same samples, same optimiser and schedule."""
    photographs, both = tmp_path / "photographs", tmp_path / "together"
    photographs.mkdir()
    for i in range(2):
        cells = np.random.default_rng(i).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((130, 120), Image.Resampling.BICUBIC).save(photographs / f"{i}.png")
    together.main(["lama:0", "transformer_unguided:0", "lama:1", "--train", str(photographs),
                   "--test", str(photographs), "--out", str(both), "--steps", "3", "--save", "2", "--seeds", "0",
                   "--workers", "0"])
    budget = Budget(train=photographs, test=photographs, steps=3, seeds=0)
    run_family("lama:1", tmp_path, budget)
    alone = read_checkpoint(families.find_run(tmp_path / "lama_1") / "checkpoints" / "last.ckpt")["state_dict"]
    weights = load_file(both / "lama_1.safetensors")
    assert {f"generator.{name}" for name in weights} == set(alone)
    for name, value in weights.items():
        torch.testing.assert_close(value.float(), alone[f"generator.{name}"].float(), rtol=1e-3, atol=1e-5)
    earlier = load_file(both / "lama_1_2.safetensors")
    assert any(not torch.equal(earlier[name], value) for name, value in weights.items())
    losses = json.loads((both / "losses.json").read_text())
    assert losses["lama_0"][0][0] == 3 and losses["lama_0"] != losses["lama_1"]


@pytest.mark.parametrize(("network", "message"), [
    ("ours:x", "expected FAMILY or FAMILY:SEED"), ("our:0", "expected FAMILY or FAMILY:SEED"),
    ("full_objective:0", "without discriminator"),
    ("ours_small", "without discriminator, average and earlier stage"),
])
def test_networks_that_cannot_be_trained_together(tmp_path, network, message):
    with pytest.raises(InputError, match=message):
        together.main([network, "--out", str(tmp_path)])
