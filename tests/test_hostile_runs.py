"""The folder of a run that came from elsewhere: a configuration, a checkpoint and names, none of which may do harm."""
from types import SimpleNamespace

import pytest
import torch

from gi import Inpainter
from gi.errors import InputError
from gi.main import main
from gi.training.callbacks import ImageGrids
from gi.video import VideoInpainter

CALL = "{target: os.system, params: {command: 'touch MARKER'}}"
CONFIGS = {
    "generator": f"model: {{params: {{generator: {CALL}}}}}",
    "guidance": f"model: {{params: {{generator: {{target: torch.nn.Identity}}, guidance: {CALL}}}}}",
    "inside": f"model: {{params: {{generator: {{target: torch.nn.ModuleList, params: {{modules: [{CALL}]}}}}}}}}",
    "name of a name": f"name: os.system\nmodel: {{params: {{generator: {CALL.replace('os.system', '${name}')}}}}}",
    "allowing": "model: {params: {generator: {target: gi.config.allow, params: {packages: os}}}}",
    "tag": "model: !!python/object/apply:os.system ['touch MARKER']",
}


@pytest.fixture(params=CONFIGS)
def hostile(request, tmp_path):
    """(folder of the run, file that appears if anything of it is run)"""
    marker, run = tmp_path / "marker", tmp_path / "run"
    for name in "configs", "checkpoints":
        (run / name).mkdir(parents=True)
    text = CONFIGS[request.param].replace("MARKER", str(marker))
    (run / "configs" / "config.yaml").write_text(f"{text}\ndata: {{target: torch.nn.Identity}}\n")
    torch.save({"state_dict": {"generator.x": torch.zeros(1)}}, run / "checkpoints" / "last.ckpt")
    return run, marker


@pytest.mark.parametrize("use", [
    lambda run: Inpainter.from_checkpoint(run / "checkpoints" / "last.ckpt", device="cpu"),
    lambda run: VideoInpainter.from_checkpoint(run / "checkpoints" / "last.ckpt", device="cpu"),
    lambda run: main(["-r", str(run)]),
    lambda run: main(["--base", str(run / "configs" / "config.yaml"), "--train", "false"]),
])
def test_nothing_of_it_is_run(hostile, use, tmp_path, monkeypatch):
    run, marker = hostile
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        use(run)
    assert "\n" not in str(caught.value) and not marker.exists()


def test_names_of_sets_stay_below_the_folder_of_the_run(tmp_path):
    sets = SimpleNamespace(validation_names=["/../../../outside"])
    trainer = SimpleNamespace(is_global_zero=True, loggers=[], global_step=1, sanity_checking=False, datamodule=sets,
                              default_root_dir=tmp_path / "logs" / "run")
    image, nothing = torch.zeros(1, 3, 8, 8), torch.zeros(1, 0, 4, 8, 8)
    data = {"inputs": (torch.zeros(1, 4, 8, 8), nothing, nothing[:, :, :2], nothing), "image": image,
            "mask": image[:, :1]}
    ImageGrids().on_validation_batch_end(trainer, None, {"data": data, "prediction": image}, None, 0)
    (written,) = tmp_path.rglob("*.png")
    assert written.is_relative_to(tmp_path / "logs" / "run" / "images")
