"""Training through the program; what is kept of it; latents on disk."""
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from gi import main
from gi.config import check, load_config
from gi.data.clips import Clips
from gi.data.datamodule import collate
from gi.data.photo_clips import PhotoClips
from gi.data.sources import FolderTree
from gi.diffusion.backbone import SmallDiffusion
from gi.diffusion.latents import LatentCache
from gi.diffusion.module import DiffusionTraining
from gi.diffusion.network import Conditions, KeyframeDiffusion
from gi.errors import InputError
from gi.media import io
from gi.training.trainer import MODULE_OPTIONS
from gi.weights.unpickle import read_checkpoint
from tests.video_helpers import moving_pictures

pytest.importorskip("diffusers")


@pytest.fixture
def arguments(photographs, tmp_path, root):
    """Function: overrides -> arguments of a short run of the small configuration, 16x16 pixels."""
    sets = ["train", "validation.object"]
    values = {f"{place}.params.source.params.{name}": value for place in sets
              for name, value in (("height", 16), ("width", 16), ("frames", 4))}
    values |= {f"{place}.params.source.params.images.params.root": photographs for place in sets}
    values |= {"validation.object.params.length": 2, "train.params.length": 4}
    values |= {"validation.random": "null", "validation.object_alone": "null"}
    trainer = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": "false", "enable_model_summary": "false",
               "max_steps": 4, "val_check_interval": 2, "accumulate_grad_batches": 1}

    def make(*overrides, logs="logs"):
        return ["--base", str(root / "configs" / "diffusion" / "small.yaml"), "--logdir", str(tmp_path / logs),
                *(f"data.params.{name}={value}" for name, value in values.items()), "--no-test",
                "data.params.num_workers=0", "data.params.batch_size=2", "data.params.eval_batch_size=2",
                "model.params.generator.params.widths=[32,32]",
                "lightning.callbacks.pictures.params.steps=1", "model.params.generator.params.token_dim=32",
                "model.params.average_start=1", "model.params.average_decay=0.5", "model.params.warmup_steps=2",
                *(f"lightning.trainer.{name}={value}" for name, value in trainer.items()), *overrides]

    return make


def run_of(folder):
    (run,) = folder.iterdir()
    return run, read_checkpoint(run / "checkpoints" / "last.ckpt")


def test_run_resumes_exactly_and_leaves_network_and_pictures(arguments, tmp_path):
    main.main(arguments(logs="whole"))
    main.main(arguments("lightning.callbacks.last.params.every_n_steps=4", "lightning.trainer.limit_train_batches=2",
                        "lightning.trainer.max_epochs=1", logs="parts"))
    run, state = run_of(tmp_path / "parts")
    assert state["global_step"] == 2
    main.main(["-r", str(run), "--no-test", "lightning.trainer.max_epochs=null"])
    (whole, state), (run, parts) = run_of(tmp_path / "whole"), run_of(tmp_path / "parts")
    assert parts["global_step"] == 4 and state["state_dict"].keys() == parts["state_dict"].keys()
    assert all(torch.equal(value, parts["state_dict"][key]) for key, value in state["state_dict"].items())
    network = KeyframeDiffusion.from_pretrained(whole / "checkpoints" / "network.safetensors")
    prefix = "average.module."
    averaged = {key.removeprefix(prefix): value for key, value in state["state_dict"].items() if key.startswith(prefix)}
    assert all(torch.equal(value, averaged[key]) for key, value in network.state_dict().items())
    pictures = sorted((whole / "images" / "val_object").iterdir())
    assert [path.stem for path in pictures] == ["step_0000002", "step_0000004"]
    assert io.read_image(pictures[0]).shape == (2 * (4 * 18 + 2), 4 * 18, 3)


@pytest.mark.parametrize(("name", "source", "max_side"), [
    ("svd_xt_stage1", "train.params", 576), ("svd_xt_stage2", "train.params", 1024),
    ("shapes_and_videos", "train.params.parts.videos.params", 32)])
def test_what_follows_the_clips_of_videos(root, name, source, max_side):
    """Held-out clips are of the rate of those trained on, and a file that is too short ends no training; what the
    network says of its clips, which videos are filled at, is true.
    """
    config = load_config([root / "configs" / "diffusion" / f"{name}.yaml"], [
        f"data.params.{source}.source.params.{option}" for option in ("rate=3", "frames=8")])
    check(config, provided={"model": MODULE_OPTIONS})
    sets, network = config.data.params.validation, config.model.params.generator.params
    held_out = [clips.params for clips in sets.values() if "VideoClips" in clips.params.source.target]
    assert held_out and all(params.source.params.rate == 3 and params.on_bad == "skip"
                            for params in [*held_out, OmegaConf.select(config.data.params, source)])
    assert (network.frames, network.max_side) == (8, max_side)


@pytest.mark.slow
def test_svd_keeps_only_what_is_trained(svd_folder, tmp_path, root):
    for number, picture in enumerate(moving_pictures(8, 32, 32)):
        io.write_image(tmp_path / "videos" / "one" / f"{number}.png", picture)
    values = {f"{place}.params.source.params.{name}": value for place in ("train", "validation.first")
              for name, value in (("root", tmp_path / "videos"), ("rate", "null"))}
    values |= {"train.params.source.params.frames": 3, "train.params.source.params.height": 16,
               "train.params.source.params.width": 16, "train.params.length": 4, "num_workers": 0,
               "validation.first.params.length": 1, "validation.none": "null"}
    arguments = ["--base", str(root / "configs" / "diffusion" / "svd_xt_stage2.yaml"), "--no-test",
                 *(f"data.params.{name}={value}" for name, value in values.items()),
                 f"model.params.generator.params.backbone={svd_folder}", "model.params.generator.params.rank=2",
                 "lightning.callbacks.pictures.params.steps=1",
                 "lightning.trainer.accelerator=cpu", "lightning.trainer.enable_progress_bar=false",
                 "lightning.trainer.val_check_interval=2", "lightning.trainer.enable_model_summary=false",
                 "model.params.latents.target=gi.diffusion.latents.LatentCache", "data.params.train.params.repeat=1",
                 f"model.params.latents.params.folder={tmp_path / 'latents'}"]
    main.main([*arguments, "--logdir", str(tmp_path / "logs"), "lightning.trainer.max_steps=2"])
    run, state = run_of(tmp_path / "logs")
    network = KeyframeDiffusion.from_pretrained(run / "checkpoints" / "network.safetensors")
    assert state["state_dict"].keys() == {f"generator.{name}" for name in network.trained_state()}
    assert len(state["state_dict"]) < len(network.state_dict()) / 2 and len(list(tmp_path.glob("latents/*/*"))) >= 2
    main.main(["-r", str(run), "--no-test", "lightning.trainer.max_steps=3"])
    resumed = run_of(tmp_path / "logs")[1]
    assert resumed["global_step"] == 3
    assert any(not torch.equal(value, resumed["state_dict"][key]) for key, value in state["state_dict"].items())
    # Another stage begins with the file of the network.
    main.main([*arguments, "--logdir", str(tmp_path / "next"), "--resume_from_checkpoint",
               str(run / "checkpoints" / "network.safetensors"), "lightning.trainer.max_steps=1",
               "model.params.learning_rate=0"])
    begun = run_of(tmp_path / "next")[1]["state_dict"]
    assert all(torch.equal(value, begun[key]) for key, value in resumed["state_dict"].items())


@pytest.fixture
def batch(photographs):
    data = Clips(source=PhotoClips(images=FolderTree(root=str(photographs)), frames=3, height=16, width=16))
    return collate([data[index] for index in range(2)])


def module_of(**options):
    return DiffusionTraining(generator=SmallDiffusion(widths=(32, 32)), **options)


def test_half_precision_is_refused():
    module = module_of()
    module._trainer = SimpleNamespace(precision="16-mixed")  # on a CPU, Lightning takes bf16 instead
    with pytest.raises(InputError, match="16-mixed makes SVD's autoencoder overflow, expected bf16-mixed or 32-true"):
        module.setup("fit")


def test_noise_of_conditions_leaves_the_token(batch, monkeypatch):
    """SVD's image embedding is of the picture as it is; only the latents beside it are noised."""
    module = module_of(condition_noise=(0.0, 0.1), drop_token=0.0, drop_conditions=0.0)
    monkeypatch.setattr(module, "_random", lambda _: [torch.Generator().manual_seed(0) for _ in range(2)])
    data = module.train().prepare(batch)
    clean = module.generator.conditions(data["pixels"], data["masks"])
    assert torch.equal(data["conditions"].token, clean.token)
    assert not torch.allclose(data["conditions"].latents, clean.latents, atol=0.1) and data["ids"][:, 2].min() > 0.5


def test_streams_of_random_numbers_are_apart(batch):
    """On a CPU, too: noise levels do not follow from the noise, and both are the same again in the same step."""
    module = module_of().train()
    module._trainer = SimpleNamespace(global_step=0, global_rank=0, fit_loop=SimpleNamespace(batch_idx=0))
    batch = {key: value * 16 if key == "name" else value.repeat(16, *[1] * (value.ndim - 1))
             for key, value in batch.items()}
    drawn, again = module.prepare(batch), module.prepare(batch)
    levels = (drawn["sigma"].log() - 0.7) / 1.6
    assert (levels - drawn["noise"].flatten()[:32]).abs().max() > 1
    assert torch.equal(drawn["sigma"], again["sigma"]) and torch.equal(drawn["z_sigma"], again["z_sigma"])
    module.seed = 1
    assert not torch.equal(module.prepare(batch)["sigma"], drawn["sigma"])


def test_latents_with_noise_are_refused(tmp_path):
    with pytest.raises(InputError, match="latents and condition_noise: expected one of them"):
        module_of(latents=LatentCache(folder=str(tmp_path)), condition_noise=(-3.0, 0.5))


def test_the_licence_is_told(monkeypatch):
    module, told = module_of(), []
    module.resumes, module._trainer = True, SimpleNamespace(precision="32-true", strategy=None)
    monkeypatch.setattr("gi.diffusion.module.rank_zero_info", told.append)
    monkeypatch.setattr(module.generator, "licence", lambda: "svd: licence: research")
    module.setup("fit")
    assert told.count("svd: licence: research") == 1


def test_what_is_dropped():
    module, chance = module_of(drop_token=0.2, drop_conditions=0.1), torch.linspace(0, 1, 1001)
    told = module._drop(Conditions(torch.ones(1001, 2, 3, 4, 4), torch.ones(1001, 1, 5)), chance)
    latents, token = (part.flatten(1).amax(dim=1) for part in told)
    assert latents.sum() == 901 and token.sum() == 701 and not (token > latents).any()


def test_rate_ends_with_the_training(monkeypatch):
    from pytorch_lightning.callbacks import Timer
    module, timer = module_of(warmup_steps=10, decay=True), Timer(duration={"seconds": 100})
    strategy = SimpleNamespace(broadcast=lambda value: value)
    module._trainer = SimpleNamespace(max_steps=1000, callbacks=[timer], strategy=strategy)
    rates = [module._rate(step) for step in (5, 10, 505, 1000)]
    assert rates == pytest.approx([0.5, 1, 0.5, 0], abs=1e-3)
    monkeypatch.setattr(timer, "time_elapsed", lambda stage: 50.0)
    assert module._rate(10 + 50) == pytest.approx(0.5, abs=0.1)  # half of the time is over
    strategy.broadcast = lambda value: (99.0, 1.0)  # by the clock of the first process
    assert module._rate(10 + 50) < 0.1
    module.decay = False
    assert module._rate(900) == pytest.approx(1)


def test_latents_on_disk(batch, tmp_path, monkeypatch):
    network, cache = SmallDiffusion(widths=(32, 32)), LatentCache(folder=str(tmp_path))
    pixels, masks = batch["pixels"].float() / 255, batch["masks"].float()
    first = cache.encode(network, pixels, masks)
    torch.testing.assert_close(first[0], network.codec.encode(pixels), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(first[1], network.conditions(pixels, masks).latents, atol=1e-3, rtol=1e-3)
    encode, calls = network.codec.encode, []
    monkeypatch.setattr(network.codec, "encode", lambda x: calls.append(x) or encode(x))
    again = LatentCache(folder=str(tmp_path)).encode(network, pixels, masks)
    assert not calls and all(map(torch.equal, first, again))
    cache.encode(network, pixels, 1 - masks)
    assert calls and len(list(tmp_path.glob("*/*.safetensors"))) == 4
    for path in tmp_path.glob("*/*.safetensors"):
        path.write_bytes(b"damaged")
    with pytest.raises(InputError, match="damaged .*; delete it"):
        cache.encode(network, pixels, masks)
