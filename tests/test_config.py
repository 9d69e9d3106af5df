"""Configurations: merging, what is an error and how it reads, building, the command line."""
import pathlib
import re
import time
from typing import Literal

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from gi.commands import arguments as cli
from gi.commands import script
from gi.config import allow, check, instantiate, instantiate_all, load_config, save_config, schema, trainer_options
from gi.config.targets import LIGHTNING, find_target
from gi.config.yaml_files import merge, parse_mapping
from gi.errors import InputError

HERE = __name__  # targets of the configurations below are in this file
allow(HERE)


class Block(nn.Module):
    def __init__(self, *, width: int, norm: Literal["batch", "layer"] = "batch"):
        super().__init__()
        if width % 2:
            raise InputError(f"width {width}: expected an even number")
        self.width, self.norm = width, norm


class Network(nn.Module):
    def __init__(self, *, n_blocks: int, block: nn.Module | None = None, rate: float = 0.1, name: str = "a",
                 flag: bool = False, sizes: list[int] | None = None, extras: dict[str, nn.Module] | None = None,
                 more: list[nn.Module] = (), pair: tuple[float, float] = (0.9, 0.999), limit: int | float | None = None,
                 where: pathlib.Path | None = None):
        super().__init__()
        self.values = dict(locals())
        self.block = block


class Module(nn.Module):
    def __init__(self, *, generator: nn.Module, learning_rate: float, batch: int = 1):
        super().__init__()
        self.generator, self.learning_rate, self.batch = generator, learning_rate, batch


class Data:
    def __init__(self, *, folder: str, anything=None):
        self.folder, self.anything = folder, anything


class NeverBuilt:
    def __init__(self, *, x: int = 0):
        raise AssertionError("check must build nothing")


def make_block(width: int = 2) -> Block:
    return Block(width=width)


NUMBER = 3


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("HERE", HERE))
    return path


BASE = """
name: photos
model:
  target: HERE.Module
  params:
    learning_rate: 1e-5
    generator:
      target: HERE.Network
      params:
        n_blocks: 4
        name: ${name}
        block: {target: HERE.Block, params: {width: 8}}
data: {target: HERE.Data, params: {folder: photos}}
lightning:
  trainer: {max_steps: 1e6, precision: 32}
  callbacks:
    best: {target: pytorch_lightning.callbacks.ModelCheckpoint, params: {save_top_k: 3, monitor: fid}}
  logger:
    board: {target: pytorch_lightning.loggers.TensorBoardLogger, params: {save_dir: logs}}
"""


@pytest.fixture
def base(tmp_path):
    return write(tmp_path, "base.yaml", BASE)


# Loading ------------------------------------------------------------------------------------------------------------

def test_inheritance_files_and_overrides_in_order(tmp_path, base):
    write(tmp_path, "shared/deep.yaml", "inherit: [../base.yaml, other.yaml]\nmodel: {params: {batch: 2}}\n")
    write(tmp_path, "shared/other.yaml", "data: {params: {folder: other}}\nmodel: {params: {batch: 7}}\n")
    text = "inherit: shared/deep.yaml\nmodel: {params: {generator: {params: {n_blocks: 12}}}}\n"
    top = write(tmp_path, "top.yaml", text)
    last = write(tmp_path, "last.yaml", "name: last\nlightning: {callbacks: {best: null}}\n")
    config = load_config([top, last], ["model.params.learning_rate=1e-4", "model.params.generator.params.sizes=[1, 2]"])
    check(config)
    assert "inherit" not in config and config.name == "last"
    assert config.model.params.batch == 2 and config.data.params.folder == "other"
    assert config.model.params.learning_rate == 1e-4
    model = instantiate(config.model)
    assert model.generator.values["n_blocks"] == 12 and model.generator.values["sizes"] == [1, 2]
    assert model.generator.values["name"] == "last"  # the interpolation sees the merged whole
    assert model.generator.block.width == 8
    assert instantiate_all(config.lightning.callbacks, "lightning.callbacks") == {}


def test_loss_and_generator_of_earlier_versions(tmp_path):
    """Configurations that finished runs have kept: the terms had their weights in one place, and copying from keyframes
    was a part of the two-stream generator."""
    old = write(tmp_path, "old.yaml", """
model:
  target: gi.training.module.GuidedInpainting
  params:
    guidance: {target: gi.flow.guidance.FlowGuidance, params: {estimator: {target: gi.flow.estimate.DIS}}}
    discriminator: {target: gi.models.discriminator.PatchDiscriminator}
    objective:
      target: gi.losses.objective.Objective
      params: {known: 2, missing: 6, adversarial: 0, r1: 0.5, perceptual: {target: gi.losses.perceptual.PerceptualLoss}}
    generator:
      target: gi.models.two_stream.TwoStreamGenerator
      params: {n_blocks: 3, pixel_write: true, pixel_width: 8, smooth_start: true}
data: {target: gi.data.datamodule.GuidedDataModule, params: {batch_size: 1}}
""")
    config = load_config(old)
    check(config)
    params = config.model.params.objective.params
    assert {name: term and term.get("params") for name, term in params.terms.items()} == {
        "l1": {"weight": 1.0, "known": 2, "missing": 6}, "adversarial": {"weight": 0}, "feature_matching": None,
        "perceptual": None}
    assert params.discriminator.params.r1 == 0.5
    generator = config.model.params.generator
    assert generator.target == "gi.models.guided_copy.GuidedCopy" and generator.params.pixel_width == 8
    assert instantiate(generator).smooth_start and generator.params.network.params == {"n_blocks": 3}
    node = "model.params.generator"
    assert load_config(old, [f"{node}.params.pixel_write=false"])[node.split(".")[0]].params.generator == {
        "target": "gi.models.two_stream.TwoStreamGenerator", "params": {"n_blocks": 3}}
    alone = load_config(old, ["model.params.discriminator=null", f"{node}.target=gi.models.trusted_copy.TrustedCopy",
                              "model.params.objective.params.perceptual=null"])
    check(alone)
    assert [name for name, term in alone.model.params.objective.params.terms.items() if term] == ["l1"]
    assert alone.model.params.generator.target == "gi.models.guided_copy.GuidedCopy"
    small = pathlib.Path(__file__).parents[1] / "configs" / "small" / "common.yaml"
    both = load_config(small, ["model.params.objective.params.known=3"])  # an override of before, on a file of today
    assert both.model.params.objective.params.terms.l1.params == {"weight": 1.0, "known": 3, "missing": 10}


def test_is_frozen_and_saved_whole(tmp_path, base):
    config = load_config(base, ["seed=3"])
    with pytest.raises(Exception, match="read-only|not in struct"):
        config.model.params.batch = 3
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
    assert "${name}" in (tmp_path / "saved.yaml").read_text()
    assert [p.name for p in tmp_path.glob("saved*")] == ["saved.yaml"]


def test_another_target_replaces_the_node_wholesale(tmp_path, base):
    text = "inherit: base.yaml\nmodel: {params: {generator: {target: HERE.Block, params: {width: 2}}}}\n"
    config = load_config(write(tmp_path, "a.yaml", text))
    check(config)
    assert OmegaConf.to_container(config.model.params.generator.params) == {"width": 2}
    config = load_config(base, [f"model.params.generator.target={HERE}.Block", "model.params.generator.params.width=4"])
    assert instantiate(config.model).generator.width == 4
    notes = []
    path = tmp_path / "other.yaml"
    path.write_text("inherit: base.yaml\nmodel: {params: {generator: {target: b.B, params: {width: 2}}}}\n")
    load_config(path, ["model.target=c.C", "data.target=d.D", "data.params.folder=x"], notes)
    assert [note.partition(":")[0] for note in notes] == ["model.params.generator", "model"]
    assert notes[0] == (f"model.params.generator: b.B in the place of {HERE}.Network, whose values are dropped: "
                        "n_blocks=4, name=${name}, block=…")
    lower = {"target": "a", "params": {"x": 1}}
    assert merge(lower, {"params": {"y": 2}}) == {"target": "a", "params": {"x": 1, "y": 2}}
    assert merge(lower, {"target": "a"}) == lower


def test_list_entries_can_be_overridden(base):
    config = load_config(base, ["data.params.anything=[{a: 1}, {a: 2}]", "data.params.anything.1.a=5"])
    assert config.data.params.anything[1].a == 5
    with pytest.raises(InputError, match=r"data.params.anything.7: the list has 1 entries"):
        load_config(base, ["data.params.anything=[1]", "data.params.anything.7=1"])


@pytest.mark.parametrize("text, message", [
    ("inherit: bse.yaml", r"bse.yaml: no such configuration \(inherited by .*x.yaml\); did you mean .*base.yaml\?"),
    ("inherit: x.yaml", "inherits from itself"),
    ("inherit: {a: 1}", "x.yaml: inherit: expected a file name"),
    ("model: [1,\ndata", "x.yaml:3: not valid YAML"),
    ("a: 1\na: 2", "x.yaml:2: not valid YAML: found duplicate key a"),
    ("- 1", "x.yaml: expected a mapping"),
])
def test_broken_files(tmp_path, base, text, message):
    error = failure(load_config, write(tmp_path, "x.yaml", text))
    assert re.search(message, error), error


@pytest.mark.parametrize("override, message", [
    ("data.params.folder.x=1", "data.params.folder.x: data.params.folder is 'photos', not a section"),
    ("nonsense", "expected an override of the form"),
    ("a..b=1", "expected an override of the form"),
    ("a=[1", "a: '[1' is not valid YAML"),
])
def test_broken_overrides(base, override, message):
    assert message in failure(load_config, base, [override])


# Checking -----------------------------------------------------------------------------------------------------------

def failure(function, *args, **kwargs):
    """The message of the InputError, after making sure that it is one line."""
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


G = "model.params.generator"


@pytest.mark.parametrize("override, message", [
    (f"{G}.params.n_blcks=3", f"{G}.params.n_blcks: HERE.Network has no such parameter; did you mean n_blocks?"),
    (f"{G}.params.block.params.wdth=3",
     f"{G}.params.block.params.wdth: HERE.Block has no such parameter; did you mean width?"),
    (f"{G}.params.zzz=3", f"{G}.params.zzz: HERE.Network has no such parameter; it has n_blocks, block, rate,"),
    (f"{G}.parms=3", f"{G}.parms: a node has only 'target' and 'params'; did you mean params?"),
    (f"{G}={{traget: a.b}}", f"{G}.traget: a node has only 'target' and 'params'; did you mean target?"),
    (f"{G}=null", f"{G}: found null, expected a node with a target of type Module"),
    (f"{G}.target=HERE.Netwrk", f"{G}.target: HERE.Netwrk: HERE has no Netwrk; did you mean HERE.Network?"),
    (f"{G}.target=HERE.NUMBER", f"{G}.target: HERE.NUMBER is neither a class nor a function"),
    (f"{G}.target=gi.modles.x.Y", f"{G}.target: gi.modles.x.Y: gi has no modles; did you mean gi.models.x.Y?"),
    (f"{G}.target=gii.models.Y", f"{G}.target: gii.models.Y: there is no module gii; did you mean gi?"),
    (f"{G}.target=Network", f"{G}.target: 'Network' is not of the form package.module.Name"),
    (f"{G}.target=HERE.Data", f"{G}: HERE.Data is not a node with a target of type Module"),
    (f"{G}.params.n_blocks=four", f"{G}.params.n_blocks: found 'four' (str), expected int"),
    (f"{G}.params.n_blocks=true", f"{G}.params.n_blocks: found True (bool), expected int"),
    (f"{G}.params.n_blocks=2.5", f"{G}.params.n_blocks: found 2.5 (float), expected int"),
    (f"{G}.params.n_blocks=null", f"{G}.params.n_blocks: found null, expected int"),
    (f"{G}.params.n_blocks=[1]", f"{G}.params.n_blocks: found [1] (list), expected int"),
    (f"{G}.params.rate=fast", f"{G}.params.rate: found 'fast' (str), expected float"),
    (f"{G}.params.rate=true", f"{G}.params.rate: found True (bool), expected float"),
    (f"{G}.params.flag=1", f"{G}.params.flag: found 1 (int), expected true or false"),
    (f"{G}.params.name=12", f"{G}.params.name: found 12 (int), expected str; put it in quotes"),
    (f"{G}.params.sizes=3", f"{G}.params.sizes: found 3 (int), expected a list of int or null"),
    (f"{G}.params.sizes=[1, x]", f"{G}.params.sizes.1: found 'x' (str), expected int"),
    (f"{G}.params.pair=[1]", f"{G}.params.pair: has 1 entries, expected 2"),
    (f"{G}.params.block.params.norm=bath",
     f"{G}.params.block.params.norm: found 'bath' (str), expected one of batch, layer; did you mean batch?"),
    (f"{G}.params.block=3", f"{G}.params.block: found 3 (int), expected a node with a target of type Module or null"),
    (f"{G}.params.extras={{a: {{target: HERE.Block, params: {{widht: 1}}}}}}",
     f"{G}.params.extras.a.params.widht: HERE.Block has no such parameter; did you mean width?"),
    (f"{G}.params.more=[{{target: HERE.Block}}]",
     f"{G}.params.more.0.params.width: is missing, HERE.Block needs it (int)"),
    ("data.params=null", "data.params.folder: is missing, HERE.Data needs it (str)"),
    ("data.params.anything=[{target: HERE.Blok}]", "data.params.anything.0.target: HERE.Blok: HERE has no Blok"),
    ("data.params.folder=${modle.x}", "data.params.folder: Interpolation key 'modle.x' not found"),
    ("data.params.folder=???", "data.params.folder: "),
    ("modle.target=x", "modle: no such section; did you mean model?"),
    ("seed=x", "seed: found 'x' (str), expected int or null"),
    ("lightning.trainr.max_steps=1", "lightning.trainr: no such key; did you mean trainer?"),
    ("lightning.trainer.max_step=1",
     "lightning.trainer.max_step: the Trainer has no such parameter; did you mean max_steps?"),
    ("lightning.trainer.max_steps=many", "lightning.trainer.max_steps: found 'many' (str), expected int"),
    ("lightning.trainer.precision=bf16-mxed", "did you mean bf16-mixed?"),
    ("lightning.trainer.default_root_dir=x", "lightning.trainer.default_root_dir: is set by the program"),
    ("lightning.callbacks.best.params.save_topk=1", "lightning.callbacks.best.params.save_topk: "),
    ("lightning.logger={target: x.Y}", "lightning.logger: expected named nodes"),
    ("data=null", "data: this section is missing"),
])
def test_every_mistake_is_one_line_with_its_path(base, override, message):
    config = load_config(base, [override.replace("HERE", HERE)])
    assert message.replace("HERE", HERE) in failure(check, config)


def test_instantiate_reports_the_same(base):
    config = load_config(base, [f"{G}.params.n_blcks=3"])
    assert failure(instantiate, config.model).startswith(f"{G}.params.n_blcks: ")
    assert failure(instantiate, config.model.params.generator, "here").startswith("here.params.n_blcks: ")


def test_check_builds_nothing_and_is_quick(tmp_path):
    path = write(tmp_path, "x.yaml", "model: {target: HERE.NeverBuilt, params: {x: 1}}")
    config = load_config(path)
    check(config, require=("model",))  # imports Lightning once
    start = time.perf_counter()
    check(config, require=("model",))
    assert time.perf_counter() - start < 1


def test_imports_that_fail_are_told_from_names_that_are_missing(tmp_path, monkeypatch):
    write(tmp_path, "broken_import.py", "import not_installed_anywhere\n")
    write(tmp_path, "broken_code.py", "1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    allow("broken_import", "broken_code")
    message = failure(instantiate, {"target": "broken_import.Thing"})
    assert message == "model.target: importing broken_import.Thing failed: No module named 'not_installed_anywhere'"
    message = failure(instantiate, {"target": "broken_code.Thing"})
    assert message == "model.target: importing broken_code.Thing failed: ZeroDivisionError: division by zero"


# Building -----------------------------------------------------------------------------------------------------------

def test_values_get_the_types_of_the_signature():
    network = instantiate({"target": f"{HERE}.Network", "params": {
        "n_blocks": 1e1, "rate": "1e-4", "pair": [0, "5e-1"], "limit": 3, "where": "a/b",
        "extras": {"x": {"target": f"{HERE}.Block", "params": {"width": 2}}},
        "more": [{"target": f"{HERE}.make_block"}, {"target": "torch.nn.Identity", "params": None}]}})
    values = network.values
    assert values["n_blocks"] == 10 and type(values["n_blocks"]) is int
    assert values["rate"] == 1e-4 and values["pair"] == (0.0, 0.5) and type(values["pair"][0]) is float
    assert values["limit"] == 3 and type(values["limit"]) is int
    assert values["where"] == pathlib.Path("a/b")
    assert values["extras"]["x"].width == 2 and isinstance(values["more"][1], nn.Identity)


def test_arguments_of_the_program(base):
    config = load_config(base)
    with pytest.raises(InputError, match="model.params.learning_rate: is set by the program"):
        instantiate(config.model, learning_rate=1.0)
    with pytest.raises(InputError, match="model.params.learning_rate: is set by the program"):
        check(config, provided={"model": ("learning_rate",)})
    node = {"target": f"{HERE}.Module", "params": {"generator": {"target": "torch.nn.Identity"}}}
    assert instantiate(node, learning_rate=2.0).learning_rate == 2.0


def test_errors_of_a_constructor_are_given_the_path(base):
    config = load_config(base, [f"{G}.params.block.params.width=3"])
    assert failure(instantiate, config.model) == f"{G}.params.block: width 3: expected an even number"


def test_trainer_options_and_named_nodes(base):
    import pytorch_lightning as pl
    config = load_config(base)
    options = trainer_options(config)
    assert options["max_steps"] == 1_000_000 and type(options["max_steps"]) is int
    pl.Trainer(accelerator="cpu", logger=False, **options)
    callbacks = instantiate_all(config.lightning.callbacks, "lightning.callbacks")
    assert isinstance(callbacks["best"], pl.callbacks.ModelCheckpoint) and callbacks["best"].save_top_k == 3


# Files from elsewhere -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target", [
    "os.system", "subprocess.Popen", "builtins.eval", "shutil.rmtree", "torch.load", "torch.hub.load",
    "torch.save", "pytorch_lightning.Trainer", "omegaconf.OmegaConf.save", "yaml.unsafe_load",
    # what writes, fetches or runs in packages that have allowed parts
    "gi.main.main", "gi.main.os.system", "gi.config.allow", "gi.config.targets.allow", "gi.config.load.save_config",
    "gi.config.load.yaml.unsafe_load", "gi.media.io.write_image", "gi.media.writer.VideoWriter",
    "gi.weights.export.export_generator", "gi.weights.fetch.fetch", "gi.unpickle.read_checkpoint", "gi.Inpainter",
    "torchvision.io.write_file", "torchvision.datasets.MNIST", "torchvision.datasets.utils.download_url",
    # names that allowed modules merely know
    "gi.data.make_validation.make_validation", "gi.data.make_validation.os.replace", "gi.data.sources.Path",
    "gi.training.callbacks.write_image", "gi.training.module.torch.load", "gi.training.module.torch.hub.load",
    "gi.training.module.GuidedInpainting.load_from_checkpoint", "gi.flow.estimate.RAFT.__init__",
    "gi.flow.estimate.read_weights", "gi.metrics.features.lpips.LPIPS", "gi.training.evaluation.pl.Trainer",
    "torch.nn.modules.sys.exit", "torch.nn.modules.module.warnings.warn", "torch.nn.Module.__class__",
    "torch.nn.functional.importlib.import_module", "torch.nn.init.constant_", "torch.nn.parallel.distributed.os.system",
    "torchvision.models.resnet18", "torchvision.models.get_model", "torchvision.models._api.load_state_dict_from_url",
    "pytorch_lightning.loggers.WandbLogger", "pytorch_lightning.loggers.CometLogger",  # what sends to servers
    # what writes as soon as it is built, and belongs elsewhere in a configuration, or nowhere
    "pytorch_lightning.callbacks.ModelCheckpoint", "pytorch_lightning.callbacks.OnExceptionCheckpoint",
    "pytorch_lightning.loggers.CSVLogger", "pytorch_lightning.loggers.csv_logs.ExperimentWriter",
    "pytorch_lightning.callbacks.model_checkpoint.shutil.rmtree", "pytorch_lightning.loggers.tensorboard.os.system",
    "pytorch_lightning.loggers.csv_logs.get_filesystem", "pytorch_lightning.strategies.ddp.torch.load",
])
def test_targets_that_could_do_harm_are_refused(tmp_path, target):
    config = load_config(write(tmp_path, "x.yaml", f"model: {{target: {target}, params: {{a: {tmp_path / 'made'}}}}}"))
    for act in (lambda: check(config, require=("model",)), lambda: instantiate(config.model)):
        message = failure(act)
        assert message.startswith(f"model.target: {target}") and "\n" not in message
        assert "is not allowed here" in message or " has no " in message
    assert not (tmp_path / "made").exists()


def test_refused_modules_are_not_even_imported(tmp_path, monkeypatch):
    write(tmp_path, "not_asked_for.py", "raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = failure(instantiate, {"target": "not_asked_for.Thing"})
    assert "is not allowed here" in message and message.endswith("--allow not_asked_for")


def test_what_the_user_allows(tmp_path, monkeypatch):
    write(tmp_path, "my_package/__init__.py", "import os\nfrom my_package.net import Net\n")
    write(tmp_path, "my_package/net.py", "class Net:\n    pass\n\ndef make():\n    return 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "--allow my_package" in failure(instantiate, {"target": "my_package.Net"})
    cli.parse_args(["-b", "x.yaml", "--allow", "my_package", "-n", "run"])
    assert type(instantiate({"target": "my_package.Net"})).__name__ == "Net"
    assert instantiate({"target": "my_package.net.make"}) == 3
    assert "is not allowed" in failure(instantiate, {"target": "my_package.os.system", "params": {"command": "true"}})


def test_the_scripts_take_the_same_option(tmp_path, monkeypatch):
    write(tmp_path, "of_a_script.py", "class Net:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    parser = script.Parser()
    script.allow_option(parser)
    assert "is not allowed" in failure(find_target, "of_a_script.Net", "x")
    assert vars(parser.parse_args(["--allow", "another", "--allow", "of_a_script"])) == {}
    assert find_target("of_a_script.Net", "x").__name__ == "Net"


@pytest.mark.parametrize(("path", "target"), [
    ("x", "torch.nn.Identity"), ("x", "torchvision.transforms.ToTensor"), ("x", "torchvision.ops.MLP"),
    ("lightning.callbacks.x", "pytorch_lightning.callbacks.LearningRateMonitor"),
    ("lightning.logger.x", "pytorch_lightning.loggers.CSVLogger"),
    ("lightning.trainer.strategy", "pytorch_lightning.strategies.DDPStrategy"),
])
def test_classes_of_the_libraries_are_allowed(path, target):
    assert find_target(target, path).__name__ == target.rpartition(".")[2]


def test_classes_of_lightning_exist():
    import pytorch_lightning as pl
    for place, module in zip(LIGHTNING, (pl.callbacks, pl.loggers, pl.strategies), strict=True):
        assert all(hasattr(module, name) for name in LIGHTNING[place])


def test_nodes_of_trainer_options_are_held_to_the_same(base):
    config = load_config(base, ["lightning.trainer.strategy={target: os.system, params: {command: 'true'}}"])
    assert failure(check, config).startswith("lightning.trainer.strategy.target: os.system is not allowed")


def _bomb(line, last, levels=30):
    names = [f"k{i}" for i in range(levels)]
    return "".join(line.replace("A", a).replace("B", b) for a, b in zip(names, names[1:], strict=False)) + \
        f"{names[-1]}: {last}\n"


@pytest.mark.parametrize("text, message", [
    ("a: &a [x, x]\n" + "".join(f"b{i}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24)),
     "x.yaml:[0-9]+: not valid YAML: YAML node expansion exceeds"),
    ("a: &a [*a]", "not valid YAML"),
    ("a: " + "[" * 100_000, "not valid YAML"),
    ("name: !!python/object/apply:os.system ['touch MADE']", "not valid YAML"),
    (_bomb("A: '${B}${B}'\n", "x"), "stands for more than"),
    (_bomb("A: ['${B}', '${B}']\n", "x"), "stands for more than"),
    (_bomb("A: '${B}'\n", "x", levels=3000), "too long a chain"),
    ("name: ${oc.env:HOME}", r"x.yaml:1: found .*, expected a reference of the form \$\{path.to.key\}"),
    ("seed: 1\nname: '${${seed}:x}'", "x.yaml:2: found .*, expected a reference"),
    ('name: "\\x24{oc.env:HOME}"', "expected a reference"),
    ("name: '" + "${" * 10_000 + "'", "expected a reference"),
    ("name: ${oc.create:${seed}}", "expected a reference"),
    ("seed: " + "9" * 5000, "x.yaml:1: too long a number"),
    ("seed: 1\nname: 1" + ":59" * 300_000, "x.yaml:2: too long a number"),
    ("# " + "x" * 2_000_000, "expected a file of at most"),
    ("inherit: /dev/zero", "expected a file of at most"),
    ("inherit: /etc", "expected a file of at most"),
])
def test_hostile_files(tmp_path, text, message):
    start = time.perf_counter()
    error = failure(load_config, write(tmp_path, "x.yaml", text.replace("MADE", str(tmp_path / "made"))))
    assert re.search(message, error) and len(error) < 500 + len(str(tmp_path))
    assert time.perf_counter() - start < 5 and not (tmp_path / "made").exists()


def test_texts_from_other_places_have_the_same_bounds():
    assert "at most" in failure(parse_mapping, "{a: " + "x" * 2_000_000 + "}", "x.safetensors, generator")


def test_bundled_files_are_inherited_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(write(tmp_path, "x.yaml", "inherit: configs/ours.yaml\nseed: 7\n"))
    assert config.seed == 7 and config.model.params.generator.params.n_blocks == 4
    write(tmp_path, "configs/ours.yaml", "seed: 8\n")  # beside it, one's own
    assert "model" not in load_config(tmp_path / "x.yaml")


def test_numbers_may_be_names_of_choices():
    assert schema.convert(32, Literal["auto", "32"], "x", None) == "32"
    for value in True, 3:
        with pytest.raises(InputError, match="expected one of"):
            schema.convert(value, Literal["auto", "32", "True"], "x", None)


def test_references_in_a_circle_are_reported(tmp_path):
    config = load_config(write(tmp_path, "x.yaml", "model: {target: '${name}'}\nname: '${model.target}'"))
    assert "Recursive interpolation" in failure(check, config)


def test_files_that_inherit_the_same_many_times_are_read_once(tmp_path):
    for i in range(40):
        write(tmp_path, f"{i}.yaml", f"inherit: [{i + 1}.yaml, {i + 1}.yaml]\n")
    write(tmp_path, "40.yaml", "name: end\n")
    assert load_config(tmp_path / "0.yaml").name == "end"


# The command line ---------------------------------------------------------------------------------------------------

@pytest.fixture
def gpus(monkeypatch):
    def there(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    there(0)
    return there


def trainer_of(args):
    return OmegaConf.to_container(OmegaConf.from_dotlist(args.overrides)).get("lightning", {}).get("trainer", {})


def test_commands_of_the_original(gpus):
    line = "--base configs/ours.yaml --gpus 0, --train false --resume_from_checkpoint models/o.ckpt"
    args = cli.parse_args(line.split())
    assert args.base == [pathlib.Path("configs/ours.yaml")] and args.train is False and args.test is True
    assert args.resume_from_checkpoint == pathlib.Path("models/o.ckpt")
    assert trainer_of(args) == {"accelerator": "cpu", "devices": 1} and "no CUDA GPU" in args.notes[0]
    gpus(2)
    args = cli.parse_args("--base configs/ours.yaml --gpus 0,1".split())
    assert args.train is True and args.notes == []
    assert trainer_of(args) == {"accelerator": "gpu", "devices": [0, 1]}


def test_all_flags_and_overrides_anywhere(gpus):
    args = cli.parse_args("a.b=1 -b x.yaml y.yaml c.d=2 --max_steps 100 -n run -s 7 e.f=3 --no-test -l out "
                          "--precision bf16-mixed --fast_dev_run g.h=4 --limit_train_batches=0.5 -t".split())
    assert args.base == [pathlib.Path("x.yaml"), pathlib.Path("y.yaml")]
    assert (args.name, args.seed, args.logdir, args.test, args.train) == ("run", 7, pathlib.Path("out"), False, True)
    assert trainer_of(args) == {"max_steps": 100, "precision": "bf16-mixed", "fast_dev_run": True,
                                "limit_train_batches": 0.5}
    assert {"a.b=1", "c.d=2", "e.f=3", "g.h=4"} <= set(args.overrides)
    assert trainer_of(cli.parse_args(["-r", "logs/x"])) == {} and cli.parse_args(["-r", "logs/x"]).resume.name == "x"
    assert trainer_of(cli.parse_args(["-r", "x", "--max_time", "00:01:00:00", "--max_steps", "-1"])) == {
        "max_time": "00:01:00:00", "max_steps": -1}


@pytest.mark.parametrize("line, message", [
    ("-b x.yaml --max_step 100", "--max_step: no such option; did you mean --max_steps?"),
    ("-b x.yaml --gpu 0,", "--gpu: no such option; did you mean --gpus?"),
    ("-b x.yaml --max_steps many", "--max_steps: many is not int"),
    ("-b x.yaml --precision bf61-mixed", "--precision: bf61-mixed is not"),
    ("-b x.yaml -t maybe", "--train: maybe is not true or false"),
    ("-b x.yaml -s abc", "invalid int value: 'abc'"),
    ("-b x.yaml --gpus a", "--gpus: 'a', expected"),
    ("x.yaml", "x.yaml: expected key.path=value"),
    ("", "nothing to do"),
])
def test_mistakes_on_the_command_line(line, message, gpus):
    assert message in failure(cli.parse_args, line.split())


def test_gpus(gpus):
    gpus(2)
    for text, expected in (("0,", [0]), ("1,0", [1, 0]), ("2", 2), ("1", 1), ("-1", -1)):
        assert trainer_of(cli.parse_args(["-b", "x", "--gpus", text])) == {"accelerator": "gpu", "devices": expected}
    assert trainer_of(cli.parse_args(["-b", "x", "--gpus", "0"])) == {"accelerator": "cpu", "devices": 1}
    for text in ("2,", "3", "0,0"):
        assert "the GPUs of this machine are 0, 1" in failure(cli.parse_args, ["-b", "x", "--gpus", text])


def test_of_two_overrides_of_one_key_the_later_one_counts():
    """Also when a switch stands before the first, which argparse takes for the switch's value."""
    arguments = cli.parse_args(["--base", "a.yaml", "--no-test", "data.x=1", "--max_steps", "3", "data.x=2"])
    assert [override for override in arguments.overrides if override.startswith("data")] == ["data.x=1", "data.x=2"]
    assert not arguments.test
