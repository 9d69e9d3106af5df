"""Runs that are interrupted, and runs of several processes: nothing hangs, nothing is lost, all agree."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from torch.nn.modules.batchnorm import _BatchNorm

from gi.data.sampler import EpochSampler
from gi.flow.guidance import Guidance
from gi.main import main
from gi.models.discriminator import PatchDiscriminator
from gi.models.fold import prepare_for_inference
from gi.training.module import GuidedInpainting
from gi.training.processes import SyncGeneratorBatchNorm
from tests.families import random_inputs, tiny_generator
from tests.helpers import assert_close_gradients
from tests.runs import ROOT, TINY, callback, finish, last_checkpoint, start, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_thread():
    """As processes of their own have: how many add up decides the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def joint(devices):
    """Batches of two over one or two processes."""
    return [f"--devices={devices}", f"data.params.batch_size={2 // devices}"]


AVERAGE = ["model.params.average_decay=0.5", "model.params.average_every=1", "model.params.average_start=1"]


def names(path):
    return callback("RecordNames", path=path)


@pytest.fixture(scope="module")
def uneven(photographs, tmp_path_factory):
    """Arguments for two processes whose evaluation sets have one and three samples, and what a run of them has left.
    """
    folder = tmp_path_factory.mktemp("uneven")
    tiny = yaml.safe_load(TINY.read_text())["data"]["params"]["train"]
    sets = {"small": None}
    for count in (1, 3):
        (folder / f"{count}").mkdir()
        for i in range(count):
            (folder / f"{count}" / f"{i}.png").symlink_to(photographs / f"{i}.png")
        tiny["params"]["images"]["params"]["root"] = f"{folder / str(count)}"
        sets[f"set{count}"] = json.loads(json.dumps(tiny))
    callbacks = {"images": {"target": "gi.training.callbacks.ImageGrids"},
                 "report": {"target": "gi.training.evaluation.EvaluationReport"}}
    (folder / "uneven.yaml").write_text(yaml.safe_dump({
        "inherit": str(TINY), "data": {"params": {"validation": sets, "test": sets, "eval_batch_size": 1}},
        "lightning": {"callbacks": callbacks}}))
    words = [f"--base={folder / 'uneven.yaml'}", f"data.params.train.params.images.params.root={photographs}", *AVERAGE]
    record = f"lightning.callbacks.record={{target: tests.helpers.RecordNetwork, params: {{folder: {folder}}}}}"
    finish(start([*words, *joint(2), f"--logdir={folder / 'whole'}", *names(folder / "whole.txt"), record]))
    return words, folder


def test_two_processes_agree(uneven, tmp_path):
    """Sets that do not divide by two, BatchNorm as it comes: one network is validated, saved and tested."""
    words, folder = uneven
    (logdir,) = (folder / "whole").iterdir()
    networks = [torch.load(folder / f"network{rank}.pt") for rank in range(2)]
    for key, value in networks[0].items():
        torch.testing.assert_close(networks[1][key], value, atol=0, rtol=0)
    alone = main([*words, "--train=false", f"--resume_from_checkpoint={logdir / 'checkpoints' / 'last.ckpt'}",
                  f"--logdir={tmp_path}"])
    for name, scores in alone.items():
        (result,) = logdir.glob(f"metrics/*{name}.json")
        images = json.loads(result.read_text())["images"]
        assert len(images) == int(name[-1])
        assert images == [pytest.approx(image) for image in scores.images]


@pytest.mark.parametrize("devices, stop, status, saved", [
    (1, signal.SIGKILL, -signal.SIGKILL, 2), (2, signal.SIGINT, 130, 4),
])  # fmt: skip
def test_interrupted_run_resumes_exactly(devices, stop, status, saved, request, arguments, tmp_path):
    """Eight steps in epochs of five, stopped in the third; checkpoints are written at even steps.

    saved: the step of the checkpoint that the signal leaves.
    """
    if devices == 1:
        words, folder = [*arguments(*AVERAGE)[:-1], *joint(1)], tmp_path
        main([*words, f"--logdir={folder / 'whole'}", *names(folder / "whole.txt")])
    else:
        words, folder = request.getfixturevalue("uneven")
        words = [*words, *joint(2), "--no-test"]
    marker, until = tmp_path / "paused", tmp_path / "go"
    process = start([*words, f"--logdir={tmp_path / 'logs'}", *names(tmp_path / "begun.txt"),
                     *callback("Pause", at_step=3, marker=marker, until=until)])
    wait_for(marker, process)
    if stop == signal.SIGKILL:
        process.send_signal(stop)
    else:
        os.killpg(process.pid, stop)  # terminals and some schedulers tell every process, data workers among them
    until.touch()
    output = finish(process, status)
    assert stop == signal.SIGKILL or "state saved" in output
    assert last_checkpoint(tmp_path / "logs")["global_step"] == saved
    (logdir,) = (tmp_path / "logs").iterdir()
    rest = ["--no-test", "data.params.num_workers=1", *names(tmp_path / "rest.txt")]
    if devices == 1:
        main(["-r", str(logdir), *rest])
    else:  # a checkpoint names its run
        finish(start(["-r", logdir / "checkpoints" / "last.ckpt", *rest]))

    whole, begun, rest = (path.read_text().splitlines() for path in
                          (folder / "whole.txt", tmp_path / "begun.txt", tmp_path / "rest.txt"))
    assert begun[:saved] + rest == whole and (stop == signal.SIGKILL or len(begun) == saved)
    weights, resumed = (last_checkpoint(path)["state_dict"] for path in (folder / "whole", tmp_path / "logs"))
    assert resumed.keys() == weights.keys()
    assert [key for key in weights if not torch.equal(resumed[key], weights[key])] == []


@pytest.mark.parametrize("where, stop", [
    ("loading", signal.SIGTERM), ("training", signal.SIGINT), ("validation", signal.SIGUSR1),
])  # fmt: skip
def test_a_waiting_run_ends(where, stop, arguments, tmp_path):
    """The second process never comes, and the first one waits for it: for a connection, for gradients, for scores."""
    marker = tmp_path / "hangs"
    words = arguments(*joint(2), *callback("Hang", where=where, marker=marker))
    process = start(words)
    wait_for(marker, process)
    time.sleep(2)  # until the first process waits
    process.send_signal(stop)
    if where == "training":  # there the first one asks for a checkpoint, and a long step would be waited for
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(stop)
    output = finish(process, 128 + stop, seconds=20)  # which is when both have closed the pipe
    assert stop.name in output
    if where != "loading":
        assert last_checkpoint(tmp_path / "logs")["global_step"] == {"training": 2, "validation": 5}[where]


def test_an_error_of_one_process_is_one_line(photographs, arguments, tmp_path):
    """A worker of the second one meets a damaged photograph. The first one, connected to it, saves the state."""
    shutil.copytree(photographs, tmp_path / "photographs")
    _, ((_, damaged),) = list(EpochSampler(length=10, batch_size=1, rank=1, world_size=2))[:2]
    path = tmp_path / "photographs" / f"{damaged}.png"
    path.write_bytes(path.read_bytes()[:500])
    words = [f"data.params.train.params.images.params.root={path.parent}", "data.params.num_workers=1"]
    output = finish(start(arguments(*joint(2), *words, "--limit_val_batches=0")), status=2)
    assert f"error: {path}: cannot read this image" in output
    assert output.count("error: ") == 1 and "Traceback" not in output
    assert last_checkpoint(tmp_path / "logs")["global_step"] == 1


def test_a_request_has_a_deadline():
    code = """if True:
        import time
        from gi.training.signals import StopSignals
        with StopSignals(grace=0.5) as signals:
            signals.hold(True)
            print("ready", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        asked = time.monotonic()
        process.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=20) == 138
        assert time.monotonic() - asked > 0.5


def test_two_processes_equal_one_with_the_joint_batch(arguments, tmp_path):
    words = ["--max_steps=3", "--limit_val_batches=0", *callback("FreezeNorm")]
    two = start(arguments(*words, "--devices=2", *callback("SaveGradients", path=tmp_path / "two.pt"), logdir="two"))
    output = finish(two)
    main(arguments(*words, "data.params.batch_size=4", *callback("SaveGradients", path=tmp_path / "one.pt"),
                   logdir="one"))
    assert "learning rate 0.0004 = 0.0001 x batch 2 x 2 process(es)" in output
    assert len(list((tmp_path / "two").iterdir())) == 1  # one folder for both processes
    joint, shared = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    for network in ("generator", "discriminator"):
        assert len(shared[network]) == 3
        assert_close_gradients(shared[network][0], joint[network][0])
    weights = [last_checkpoint(tmp_path / name)["state_dict"] for name in ("one", "two")]
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], atol=1e-5, rtol=1e-3)


def test_synchronised_norm_is_the_generators():
    """It serves evaluation as it is, and folded, and so does what the Trainer turns it into after training."""
    model = GuidedInpainting(generator=tiny_generator("ours"), guidance=Guidance(),
                             discriminator=PatchDiscriminator(width=4))
    inputs = random_inputs(1, 1, 32, 32)
    with torch.no_grad():
        expected = model.generator(*inputs)
        for change in (SyncGeneratorBatchNorm().apply, SyncGeneratorBatchNorm().revert):
            model = change(model).eval()
            torch.testing.assert_close(model.generator(*inputs), expected, atol=0, rtol=0)
            folded = prepare_for_inference(model.generator)
            torch.testing.assert_close(folded(*inputs), expected, atol=1e-5, rtol=1e-4)
            assert not any(isinstance(part, _BatchNorm) for part in folded.modules())
    assert not any(isinstance(part, torch.nn.SyncBatchNorm) for part in model.discriminator.modules())
