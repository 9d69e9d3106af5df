"""Lightning's options by their own names: each works, or is refused in a line; and what resuming does with values."""
import contextlib
import inspect
import shutil
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gi.config import targets
from gi.config.load import MANAGED, load_config
from gi.errors import InputError
from gi.main import main
from gi.report.plots import read_curves
from gi.training.callbacks import LastCheckpoint, total_steps
from gi.training.schedule import warmup_cosine
from gi.training.trainer import MODULE_OPTIONS, build_trainer
from gi.weights.unpickle import read_checkpoint
from tests.runs import callback, last_checkpoint, tiny_run

CALLBACK = "lightning.callbacks.x={{target: pytorch_lightning.callbacks.{}, params: {{{}}}}}"
ALLOWED = ["--allow=pytorch_lightning"]
LOGGER = "lightning.logger.x.target=pytorch_lightning.loggers.{}"

REFUSED = [  # before there is a Trainer, or by the Trainer
    (["--accelerator=gpu"], "lightning.trainer: No supported gpu backend"),
    (["--accelerator=tpu"], "lightning.trainer: .*torch_xla"),
    (["--accelerator=nope"], "lightning.trainer: .*invalid accelerator name"),
    (["--devices=0"], "lightning.trainer: .*devices"),
    (["--devices=0,1"], "lightning.trainer: .*devices"),
    (["--devices=[0,1]"], "lightning.trainer: .*devices"),
    (["--num_nodes=0"], "lightning.trainer: .*num_nodes"),
    (["--strategy=nope"], "lightning.trainer: .*invalid strategy name"),
    (["--strategy=fsdp"], "lightning.trainer: .*requires a GPU"),
    (["--strategy=deepspeed"], "lightning.trainer: .*DeepSpeed"),
    (["--strategy=ddp_spawn", "--devices=2"], "lightning.trainer.strategy: ddp_spawn is not supported"),
    (["--strategy=ddp_notebook"], "lightning.trainer.strategy: ddp_notebook is not supported"),
    (["lightning.trainer.strategy.target=pytorch_lightning.strategies.ModelParallelStrategy", *ALLOWED],
     "lightning.trainer.strategy: .*ModelParallelStrategy.* is not supported"),
    (["lightning.trainer.strategy.target=pytorch_lightning.strategies.DeepSpeedStrategy", *ALLOWED],
     "lightning.trainer.strategy: .*DeepSpeed"),
    *(([f"--precision={precision}"], "lightning.trainer.precision: .* is not supported")
      for precision in ("16-true", "bf16-true", "64-true", "64")),
    (["--precision=transformer-engine"], "lightning.trainer: .*transformer_engine"),
    (["--precision=8"], "argument --precision: 8 is not"),
    (["--fast_dev_run=-1"], "lightning.trainer: fast_dev_run=-1"),
    (["--max_epochs=-2"], "lightning.trainer: .*max_epochs"),
    (["--max_steps=-2"], "lightning.trainer: .*max_steps"),
    (["--max_time=nope"], "lightning.trainer: .*DD:HH:MM:SS"),
    (["--max_time={secs: 1}"], "lightning.trainer: .*secs"),
    (["--limit_train_batches=1.5"], "lightning.trainer: .*limit_train_batches"),
    (["--limit_val_batches=-1"], "lightning.trainer: .*limit_val_batches"),
    (["--overfit_batches=-1"], "lightning.trainer: .*overfit_batches"),
    (["--val_check_interval=0"], "lightning.trainer.val_check_interval: expected more than 0"),
    (["--val_check_interval=nope"], "lightning.trainer: .*DD:HH:MM:SS"),
    (["--check_val_every_n_epoch=0"], "lightning.trainer.check_val_every_n_epoch: expected at least 1"),
    (["--accumulate_grad_batches=0"], "model: accumulate_grad_batches: expected at least 1"),
    (["--gradient_clip_val=-1"], "model: gradient_clip_val: expected at least 0"),
    (["--gradient_clip_algorithm=nope"], "model: gradient_clip_algorithm: expected norm or value"),
    (["--deterministic=nope"], "argument --deterministic"),
    (["--profiler=nope"], "lightning.trainer: .*profiler"),
    (["--profiler=xla"], "lightning.trainer: .*torch_xla"),
    (["--barebones"], "lightning.trainer.barebones: is not supported"),
    (["--plugins=nope"], "argument --plugins"),
    (["--sync_batchnorm", "--devices=2"], "lightning.trainer.sync_batchnorm: only GPUs"),
    (["--reload_dataloaders_every_n_epochs=-1"], "lightning.trainer: .*reload_dataloaders"),
    *(([f"--{name}=x"], f"--{name}: the program sets that") for name in MANAGED),
    # Constructors of Lightning's, and of torch's below ours.
    ([LOGGER.format("wandb.WandbLogger"), *ALLOWED], "lightning.logger.x: .*wandb"),
    ([LOGGER.format("comet.CometLogger"), *ALLOWED], "lightning.logger.x: .*comet"),
    (["lightning.logger.x.target=torch.nn.Identity"], "lightning.logger.x: Identity is not derived from"),
    (["lightning.callbacks.x.target=torch.nn.Identity"], "lightning.callbacks.x: Identity is not derived from"),
    ([CALLBACK.format("EarlyStopping", "monitor: lr, mode: up")], "lightning.callbacks.x: .*mode"),
    ([CALLBACK.format("Timer", "duration: nope")], "lightning.callbacks.x: .*DD:HH:MM:SS"),
    ([CALLBACK.format("ModelCheckpoint", "save_top_k: -2")], "lightning.callbacks.x: .*save_top_k"),
    # Places outside the folder of the run, on other machines, and of names that numbers spell.
    *(([CALLBACK.format("ModelCheckpoint", f"dirpath: '{place}'")], "lightning.callbacks.x.params.dirpath: .*machine")
      for place in ("ftp://example.org/x", "reference::http://example.org/x", "reference::data:application/json,x")),
    ([CALLBACK.format("ModelCheckpoint", "dirpath: ../../elsewhere")], "lightning.callbacks: .*below the folder"),
    *(([CALLBACK.format("ModelCheckpoint", f"filename: '{name}'")], "lightning.callbacks: .*filename")
      for name in ("{step:c}{step:c}/best", "{step!s}", "{step:{step}}")),
    ([CALLBACK.format("OnExceptionCheckpoint", "dirpath: .")],
     "lightning.callbacks.x.target: .*is not allowed here, expected a class of gi or Lightning's .*ModelCheckpoint"),
    (["lightning.callbacks.last.params.every_n_steps=0"], "lightning.callbacks.last: every_n_steps: expected at least"),
    (["model.params.base_lr=-1"], "model: base_lr: expected at least 0"),
    (["model.params.betas=[1,2]"], "model: betas: expected numbers in"),
    (["model.params.average_decay=2"], "model: average_decay: expected a number in"),
    (["model.params.generator.params.n_latents=-1"], "model.params.generator: n_latents: expected at least 1"),
    (["seed=-1"], "seed: expected a number in"),
]
REFUSED_LATER = [  # when training is about to start
    (["--overfit_batches=0.1"], "lightning.trainer: .*limit_.*_batches"),
    (["--limit_train_batches=0.01"], "lightning.trainer: .*limit_train_batches"),
    (["--val_check_interval=7", "--limit_val_batches=1"], "lightning.trainer: .*val_check_interval"),
    ([CALLBACK.format("LearningRateFinder", ""), *ALLOWED],
     "lightning.trainer: AttributeError: .*learning rate finder"),
    ([CALLBACK.format("BackboneFinetuning", ""), *ALLOWED], "lightning.trainer: .*backbone"),
    ([CALLBACK.format("GradientAccumulationScheduler", "scheduling: {0: 2}"), *ALLOWED], "lightning.trainer: .*manual"),
    ([CALLBACK.format("StochasticWeightAveraging", "swa_lrs: 0.1"), *ALLOWED], "lightning.trainer: SWA"),
    (["model.params.objective=null"], "model.params.objective: training needs one"),
    (["data.params.batch_size=20"], "training set: 10 samples do not fill a batch of 20"),
]


@pytest.fixture(autouse=True)
def allowed(monkeypatch):
    """What --allow adds here is not allowed to the tests after these."""
    monkeypatch.setattr(targets, "_allowed", set(targets._allowed))


@pytest.mark.parametrize(("words", "message"), REFUSED + REFUSED_LATER)
def test_refused_in_one_line(words, message, arguments):
    with pytest.raises(InputError, match=f"^{message}") as error:
        main(arguments("--limit_val_batches=0", *words))
    assert "\n" not in str(error.value)


# One value of every option that is neither refused above nor looked at in a test of its own.
ACCEPTED = {
    "accelerator": "auto", "strategy": "ddp", "devices": 1, "num_nodes": 1, "precision": "bf16", "fast_dev_run": 2,
    "max_epochs": 2, "min_epochs": 1, "max_steps": 3, "min_steps": 1, "max_time": {"hours": 1},
    "limit_train_batches": 0.5, "limit_val_batches": 1, "limit_test_batches": 1, "limit_predict_batches": 1,
    "overfit_batches": 1, "val_check_interval": "00:00:00:01", "check_val_every_n_epoch": 2, "num_sanity_val_steps": 1,
    "log_every_n_steps": 1, "enable_checkpointing": False, "enable_progress_bar": True, "enable_model_summary": True,
    "accumulate_grad_batches": 2, "gradient_clip_val": 1, "gradient_clip_algorithm": "value", "deterministic": "warn",
    "benchmark": True, "inference_mode": False, "profiler": "pytorch", "detect_anomaly": True, "barebones": False,
    "plugins": [], "sync_batchnorm": True, "reload_dataloaders_every_n_epochs": 1, "enable_autolog_hparams": False,
    "model_registry": None,
}


def test_every_option_is_known():
    """A new one of Lightning's belongs into the table above, or among those refused."""
    assert set(inspect.signature(pl.Trainer).parameters) - {"self", *MANAGED} == ACCEPTED.keys()


def test_accepted(arguments, tmp_path):
    for name, value in ACCEPTED.items():
        if name not in MODULE_OPTIONS:
            build_trainer(SimpleNamespace(get=lambda *_: {}), {"accelerator": "cpu", name: value}, tmp_path,
                          SimpleNamespace(validation_names=[]), [])
    together = [f"--{name}={str(ACCEPTED[name]).lower()}" for name in (
        "precision", "detect_anomaly", "benchmark", "inference_mode", "reload_dataloaders_every_n_epochs",
        "num_sanity_val_steps", "limit_val_batches", "limit_train_batches", "enable_model_summary",
        "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches", "plugins")]
    main(arguments(*together, "--max_steps=1"))
    assert last_checkpoint(tmp_path / "logs")["global_step"] == 1


def test_overfitting_sees_the_same_again(arguments, tmp_path):
    """Same photographs, same views of them, same holes: so that the loss of a network of enough size goes to zero."""
    path = tmp_path / "samples.txt"
    main(arguments("--overfit_batches=2", "--max_steps=6", *callback("RecordNames", path=path, images=True)))
    lines = path.read_text().splitlines()
    assert len(lines) == 6 and lines[0] != lines[1]
    assert lines[:2] * 3 == lines


def test_clipping_by_value(arguments, tmp_path):
    """Adam's first moment after one step is (1 - beta1) times the gradient it was given. 0 means no clipping."""
    largest = {}
    for value in (0, 1e-3):
        main(arguments(f"--gradient_clip_val={value}", "--gradient_clip_algorithm=value", "--max_steps=1",
                       "--limit_val_batches=0", logdir=str(value)))
        state = last_checkpoint(tmp_path / str(value))["optimizer_states"][0]["state"]
        largest[value] = max((10 * entry["exp_avg"]).abs().max().item() for entry in state.values())
    assert largest[0] > 0.01
    assert largest[1e-3] == pytest.approx(1e-3, rel=1e-4)


def test_time_that_runs_out_within_a_step_waits_for_its_end(arguments, tmp_path, monkeypatch):
    """And leaves the state of this step, though none was to be saved."""
    def check(timer, trainer):
        trainer.should_stop = trainer.fit_loop.total_batch_idx == 2  # the first batch of the second step

    monkeypatch.setattr(Timer, "_check_time_remaining", check)
    main(arguments("--max_time=01:00:00:00", "--accumulate_grad_batches=2", "--limit_val_batches=0",
                   "lightning.callbacks.last.params.every_n_steps=100"))
    assert last_checkpoint(tmp_path / "logs")["global_step"] == 2


@pytest.mark.parametrize("minimum, steps", [([], 2), (["--min_epochs=0", "--min_steps=5"], 5)])
def test_a_validation_within_a_step_may_end_the_training(arguments, tmp_path, monkeypatch, minimum, steps):
    """After the step; and what has to go on for a minimum of steps is not saved after each of them."""
    saved = []
    monkeypatch.setattr(LastCheckpoint, "_save", lambda _, trainer: saved.append(trainer.global_step))
    stop = ("lightning.callbacks.stop={target: pytorch_lightning.callbacks.EarlyStopping, params: "
            "{monitor: val/small/psnr, mode: max, stopping_threshold: 0}}")
    main(arguments(stop, "--accumulate_grad_batches=2", "--val_check_interval=3", *minimum, "--max_steps=9",
                   "--check_val_every_n_epoch=null", "--limit_val_batches=1", "data.params.train.params.length=40",
                   "lightning.callbacks.last.params.every_n_steps=100"))
    assert saved[-1] == steps and 4 not in saved


def test_curves_count_optimiser_steps(arguments, tmp_path):
    main(arguments("--accumulate_grad_batches=2", "--max_steps=6", "--log_every_n_steps=1", "--val_check_interval=2",
                   "--limit_val_batches=1", "data.params.train.params.length=8"))
    (folder,) = (tmp_path / "logs").iterdir()
    curves = read_curves(folder / "tensorboard")
    assert curves["train/l1"][0] == curves["lr"][0] == [1, 2, 3, 4, 5, 6]
    assert curves["val/small/psnr_hole"][0] == [1, 2, 3, 4, 5, 6]


def test_steps_of_a_training():
    """Lightning does not know what the module accumulates: the last window of an epoch may be shorter."""
    module = SimpleNamespace(accumulate_grad_batches=2)
    for epochs, limit, total in (3, -1, 9), (3, 7, 7), (-1, 8, 8), (None, 8, 8):
        trainer = SimpleNamespace(max_epochs=epochs, max_steps=limit, num_training_batches=5,
                                  estimated_stepping_batches=limit)
        assert total_steps(trainer, module) == total


@pytest.mark.parametrize("kind, params", [
    ("CSVLogger", "{save_dir: PLACE}"), ("TensorBoardLogger", "{save_dir: PLACE}"),
    ("CSVLogger", "{save_dir: ., name: ../..}"), ("TensorBoardLogger", "{save_dir: ., version: ../../x}")])
def test_loggers_stay_in_the_folder_of_the_run(arguments, tmp_path, kind, params):
    """A configuration from elsewhere must not write, or replace, files in other places."""
    logger = LOGGER.format(kind), f"lightning.logger.x.params={params.replace('PLACE', str(tmp_path / 'mine'))}"
    with pytest.raises(InputError, match="lightning.logger.x: would write to .*, expected a save_dir"):
        main(arguments(*logger, "--max_steps=1"))
    assert not (tmp_path / "mine").exists()


def test_loggers_are_relative_to_the_folder_of_the_run(arguments, tmp_path):
    main(arguments(LOGGER.format("CSVLogger"), "lightning.logger.x.params={save_dir: tables, name: '', version: ''}",
                   "--max_steps=1", "--log_every_n_steps=1"))
    (table,) = (tmp_path / "logs").glob("*/tables/metrics.csv")
    assert "train/l1" in table.read_text()


# Resuming with other values -------------------------------------------------------------------------------------------


STOPPING = "lightning.callbacks.stop={target: pytorch_lightning.callbacks.EarlyStopping, params: {monitor: lr}}"


@pytest.fixture(scope="module")
def finished(photographs, tmp_path_factory):
    """Folder of a run of four steps."""
    folder = tmp_path_factory.mktemp("finished")
    main(tiny_run(photographs, folder, "--max_steps=4", "--limit_val_batches=0", STOPPING))
    return next((folder / "logs").iterdir())


@pytest.fixture
def resume(finished, tmp_path):
    """Function: overrides -> what resuming a copy of that run in tmp_path/run gives."""
    shutil.copytree(finished, tmp_path / "run")
    return lambda *words: main(["-r", str(tmp_path / "run"), "--no-test", *words])


def test_nothing_to_train_is_said(resume, caplog):
    with caplog.at_level("INFO"):
        resume()
    assert "nothing to train: 4 steps are done, and max_steps is 4" in caplog.text


def test_beginning_anew_is_said(resume, tmp_path, caplog):
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()
    with caplog.at_level("INFO"):
        resume("--max_steps=1")
    assert "checkpoints: starting from the beginning" in caplog.text
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 1


@pytest.mark.parametrize("words", [
    ["--train=false"], ["--max_steps=4"], ["--max_steps=6", "data.params.batch_size=20"],
])  # fmt: skip
def test_configuration_stays_without_training(resume, words, tmp_path):
    config = tmp_path / "run" / "configs" / "config.yaml"
    before = config.read_text()
    with contextlib.suppress(InputError):
        resume("model.params.warmup_steps=7", *words)
    assert config.read_text() == before


def test_configuration_follows_with_training(resume, tmp_path):
    resume("model.params.warmup_steps=7", "--max_steps=5")
    assert load_config(tmp_path / "run" / "configs" / "config.yaml").model.params.warmup_steps == 7


def test_settings_are_not_those_of_the_checkpoint(resume, tmp_path):
    """Of callbacks and optimisers; a learning rate's schedule, too."""
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=False)
    for state in content["optimizer_states"]:
        state["param_groups"][0] |= {"eps": 0.5, "weight_decay": 0.5, "amsgrad": True, "maximize": True}
    torch.save(content, path)
    resume("--max_steps=5", "lightning.callbacks.stop.params.patience=7", "model.params.decay_steps=40",
           "--log_every_n_steps=1", *callback("SaveRates", path=tmp_path / "rates.txt"))
    content = read_checkpoint(path)
    for state in content["optimizer_states"]:
        settings = state["param_groups"][0]
        assert [settings[key] for key in ("eps", "weight_decay", "amsgrad", "maximize")] == [1e-8, 0, False, False]
    (stopping,) = (state for key, state in content["callbacks"].items() if key.startswith("EarlyStopping"))
    assert stopping["patience"] == 7
    used = pytest.approx(2e-4 * warmup_cosine(4, warmup=2, end=40))
    assert float((tmp_path / "rates.txt").read_text()) == used
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert board.Scalars("lr")[-1].value == used


def test_averages_begin_and_end_with_the_configuration(resume, tmp_path, caplog):
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    average = ["model.params.average_decay=0.5", "model.params.average_every=1", "model.params.average_start=1"]
    resume("--max_steps=5", *average)
    weights = read_checkpoint(path)["state_dict"]
    assert weights["average.n_averaged"] == 1
    assert torch.equal(weights["average.module.latents"], weights["generator.latents"])
    with caplog.at_level("INFO"):
        resume("--max_steps=6", "model.params.average_decay=null")
    assert "average of weights is left out" in caplog.text
    assert not [key for key in read_checkpoint(path)["state_dict"] if key.startswith("average")]


@pytest.mark.parametrize("change", ["generator.params.ngf=8", "discriminator.params.width=8"])
def test_other_networks_are_refused(resume, change):
    with pytest.raises(InputError, match="checkpoint: (generator|discriminator).* has shape .* with this") as error:
        resume("--max_steps=6", f"model.params.{change}")
    assert "\n" not in str(error.value)
