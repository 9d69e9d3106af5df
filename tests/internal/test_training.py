"""Training with Lightning, through the program."""
import json

import pytest
import torch

from gi import main
from gi.config import load_config
from gi.media import io
from gi.weights.unpickle import read_checkpoint
from tests.test_video_pipeline import scene

KINDS = ["base", "stacked", "coarse_to_fine"]


@pytest.fixture
def arguments(tmp_path, root):
    """Function: overrides -> arguments of a short run on a tiny video."""
    for number, (frame, mask) in enumerate(scene(4, 24, 32)):
        io.write_image(tmp_path / "frames" / f"{number}.png", frame)
        io.write_image(tmp_path / "masks" / f"{number}.png", 255 * mask)
    cpu = ["accelerator=cpu", "devices=1", "enable_progress_bar=false", "enable_model_summary=false", "max_steps=6"]

    def make(*overrides, kind="base", logs="logs"):
        return ["--base", str(root / "configs" / "internal" / f"{kind}.yaml"), "--logdir", str(tmp_path / logs),
                f"data.params.video={tmp_path / 'frames'}", f"data.params.masks={tmp_path / 'masks'}",
                "data.params.num_workers=0", "data.params.epoch=8", "data.params.batch_size=2", "data.params.scored=2",
                "lightning.trainer.val_check_interval=4", "model.params.objective.params.regularise_from=3",
                *(f"lightning.trainer.{option}" for option in cpu), *overrides]

    return make


def checkpoint(folder):
    (path,) = folder.glob("*/checkpoints/last.ckpt")
    return read_checkpoint(path), path.parent.parent


def test_run(arguments, tmp_path, capsys):
    results = main.main(arguments("lightning.trainer.precision=bf16-mixed"))
    assert 5 < results["hidden"].totals["composite"]["psnr_hole"]["mean"] < 40
    state, run = checkpoint(tmp_path / "logs")
    assert state["global_step"] == 6
    steps = {int(entry["step"]) for entry in state["optimizer_states"][0]["state"].values()}
    assert steps == {3}  # a new optimiser at step 3
    pictures = sorted((run / "images" / "filled").iterdir())
    assert [path.stem for path in pictures] == ["step_0000004", "step_0000006"]
    assert io.read_image(pictures[0]).shape == (2 * 24 + 2, 4 * 32, 3)
    assert json.loads((run / "metrics" / "hidden.json").read_text())
    assert list((run / "tensorboard").iterdir())


def test_resumed_run_is_the_uninterrupted_one(arguments, tmp_path):
    average = ["model.params.even=true", "model.params.average_decay=0.9", "model.params.decay_steps=6", "--no-test"]
    main.main(arguments(*average, logs="whole"))
    main.main(arguments(*average, "lightning.trainer.max_steps=3", logs="parts"))
    _, run = checkpoint(tmp_path / "parts")
    main.main(["-r", str(run), "--no-test", "lightning.trainer.max_steps=6"])
    whole, parts = (checkpoint(tmp_path / name)[0]["state_dict"] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and any(key.startswith("average.") for key in whole)
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())


@pytest.mark.parametrize("kind", KINDS)
def test_configurations(kind, root):
    cfg = load_config([root / "configs" / "internal" / f"{kind}.yaml"])
    params = cfg.model.params
    assert params.generator.target.rpartition(".")[2].lower() == kind.replace("_", "")
    weights = {name: term.params.weight for name, term in
               {**params.objective.params.terms, **params.objective.params.regularisers}.items()}
    ambiguity = {} if kind == "base" else {"ambiguity": 0.1}
    assert weights == {"reconstruction": 1, "stabilisation": 0.2} | ambiguity
