"""Trains small networks of many families at once on one graphics card, and scores them.

    python -m tools.together ours:0 ours:1 lama:0 --train PHOTOGRAPHS --test OTHERS --out logs/together --minutes 9

FAMILY:SEED names a configuration of `configs/small` and the seed of its weights; all of them see the same samples in
the same order, those of `python -m tools.train_small`, and are scored on the same test sets. A step of such a network
is thousands of small kernels, which a program cannot ask for as fast as a card runs them: each network's step is
recorded as a CUDA graph, and the graphs run beside each other. Without CUDA the steps are taken in turn.

OUT gets results.json, rewritten at every evaluation, and the weights as FAMILY_SEED.safetensors. If --minutes are not
enough for all of them, the last ones named are left out. One that diverges is reported, and does not stop the others.
"""
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")  # graphs that run beside each other; read when CUDA starts

import cv2  # noqa: E402
import torch  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from gi.commands import script  # noqa: E402
from gi.config import instantiate, load_config  # noqa: E402
from gi.data.datamodule import GuidedDataModule, collate  # noqa: E402
from gi.data.sampler import EpochSampler  # noqa: E402
from gi.errors import InputError  # noqa: E402
from gi.media.io import atomic_write  # noqa: E402
from gi.report.results import write_json  # noqa: E402
from gi.training.layout import lay_out  # noqa: E402
from gi.training.module import GuidedInpainting  # noqa: E402
from gi.training.schedule import warmup_cosine  # noqa: E402
from gi.weights.pretrained import PARTS, metadata_of  # noqa: E402
from tools.families import CONFIGS, MEASURES  # noqa: E402

EVALUATIONS = 250, 500, 1000, 2000, 3500, 5000  # steps after which the validation sets are scored, and the last one


@dataclass(eq=False)
class Training:
    """A network, its optimiser, and the step as a graph, on a stream of its own."""

    name: str
    config: DictConfig
    module: GuidedInpainting
    device: torch.device
    inputs: dict = field(default_factory=dict)  # prepared batch; a graph reads it where it was when recorded
    graph: "torch.cuda.CUDAGraph | None" = None
    losses: list[list[float]] = field(default_factory=list)  # [step, mean since the last]
    scores: dict[str, dict] = field(default_factory=dict)
    error: str | None = None

    def __post_init__(self):
        cuda, params = self.device.type == "cuda", self.config.model.params
        self.generator = self.module.generator.to(self.device).train()
        lay_out([self.generator], cuda)
        self.base_lr = params.base_lr * self.config.data.params.batch_size
        self.rate = torch.zeros((), device=self.device)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=self.rate, betas=tuple(params.betas),
                                          fused=True, **({"capturable": True} if cuda else {}))
        self.total = torch.zeros((), device=self.device)  # of the losses
        self.stream = torch.cuda.Stream(self.device) if cuda else None

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        prediction = self.module.predict(self.inputs, self.generator)
        loss = sum(self.module._helpers["objective"].generator(prediction, self.inputs, None).values())
        loss.backward()
        nn.utils.clip_grad_norm_(self.generator.parameters(), self.config.lightning.trainer.gradient_clip_val)
        self.optimizer.step()
        self.total += loss.detach()

    def record(self) -> None:
        """The step as a graph; weights, statistics and moments are those of before. Without one if that fails."""
        if self.stream is None:
            return
        before = {name: value.clone() for name, value in self.generator.state_dict().items()}
        try:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                for _ in range(3):
                    self.step()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):  # loaders use CUDA
                self.step()
            self.graph = graph
        except RuntimeError as error:
            self.error = f"not recorded: {error}"[:500]
        torch.cuda.synchronize()
        self.restore(before)

    def restore(self, weights: dict[str, Tensor]) -> None:
        for name, value in self.generator.state_dict().items():
            value.copy_(weights[name])
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()
        self.total.zero_()

    def advance(self, rate: float) -> None:
        """A step, begun; on CUDA on the network's own stream once what the current one was asked for is done."""
        if self.stream is None:
            self.rate.fill_(rate)
            self.step()
            return
        self.stream.wait_event(self.ready)
        with torch.cuda.stream(self.stream):
            self.rate.fill_(rate)
            if self.graph is None:
                self.step()
            else:
                self.graph.replay()
            self.done = self.stream.record_event()


class Prepared(Dataset):
    """Training batches by step, as the network gets them: what a batch is made of depends on nothing but the step."""

    def __init__(self, module: GuidedInpainting, data: GuidedDataModule, steps: int):
        self.module, self.data, self.steps = module, data, steps
        self.each = len(data.train) // data.batch_size
        self.epoch: tuple[int, list] = -1, []

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict:
        epoch, position = divmod(step, self.each)
        if self.epoch[0] != epoch:
            sampler = EpochSampler(length=len(self.data.train), batch_size=self.data.batch_size, seed=self.data.seed,
                                   position=lambda: (epoch, 0))
            self.epoch = epoch, list(sampler)
        return prepared(self.module, [self.data.train[entry] for entry in self.epoch[1][position]])


class Evaluated(Dataset):
    """Batches of validation and test sets, named (stage, set), with estimated flow."""

    def __init__(self, module: GuidedInpainting, sets: dict[tuple, Dataset], size: int):
        self.module, self.sets = module, sets
        self.batches = [(key, range(start, min(start + size, len(dataset)))) for key, dataset in sets.items()
                        for start in range(0, len(dataset), size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple:
        key, indices = self.batches[number]
        return key, prepared(self.module, [self.sets[key][i] for i in indices])


def prepared(module: GuidedInpainting, samples: list) -> dict:
    batch = collate(samples)
    return module.prepare(batch) | {"names": batch["name"]}


def to(value, device):
    """A prepared batch, or what is in it, on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: to(item, device) for key, item in value.items()}
    return [to(item, device) for item in value] if isinstance(value, (tuple, list)) else value


def overwrite(old: dict, new: dict) -> None:
    """The tensors of a prepared batch, in place."""
    for key in "image", "mask", "sources", "source_masks":
        old[key].copy_(new[key], non_blocking=True)
    for mine, theirs in zip(old["inputs"], new["inputs"], strict=True):
        mine.copy_(theirs, non_blocking=True)


def configuration(name: str, train: Path, test: Path) -> DictConfig:
    path = CONFIGS / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"{name}: no such configuration in {CONFIGS}")
    cfg = load_config([path])
    OmegaConf.set_readonly(cfg, False)
    cfg.data.params.train.params.parts.large.params.images.params.root = str(train.resolve())
    cfg.data.params.validation.large.params.images.params.root = str(test.resolve())
    return cfg


def built(config: DictConfig, part: str):
    return instantiate(OmegaConf.to_container(config[part], resolve=True), part)


def evaluation_sets(config: DictConfig, seeds: int, count: int | None) -> dict[tuple, Dataset]:
    """{(stage, set, seed): dataset} of a configuration."""
    sets: dict[tuple, Dataset] = {("val", name, 0): dataset
                                  for name, dataset in built(config, "data").validation.items()}
    for seed in range(seeds):
        copy = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
        for node in copy.data.params.test.values():
            if node is not None:
                node.params.seed = seed
                if count is not None:
                    node.params.length = count
        sets |= {("test", name, seed): dataset for name, dataset in built(copy, "data").test.items()}
    return sets


@torch.no_grad()
def evaluate(training: Training, batches: list[tuple], stage: str) -> dict:
    """{set: [scores of each seed]}: the means of `MEASURES`, composites."""
    training.generator.eval()
    metrics: dict[tuple, nn.Module] = {}
    for key, data in batches:
        if key[0] == stage:
            metric = metrics.setdefault(key, built_metrics(training))
            prediction = training.module.predict(data, training.generator)
            metric.update(prediction, data["image"], data["mask"], data["names"])
    training.generator.train()
    scores: dict[str, list] = {}
    for (_, name, _), metric in metrics.items():
        scalars = metric.compute().scalars()
        scores.setdefault(name, []).append({key: scalars[key] for key in MEASURES})
    return scores


def built_metrics(training: Training) -> nn.Module:
    return training.module._make_metrics().to(training.device)


def loaders(trainings: list[Training], steps: int, workers: int, seeds: int, count: int | None, device: torch.device
            ) -> tuple[list[list[Training]], list[Iterator], list[list[tuple]]]:
    """Networks that get the same batches, an iterator over these for every such group, and its evaluation batches."""
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        nodes = training.config.data, training.config.model.params.guidance
        same = json.dumps([OmegaConf.to_container(node, resolve=True) for node in nodes])
        groups.setdefault(same, []).append(training)
    iterators, evaluations = [], []
    share = [max(1, workers // len(groups))] * len(groups) if workers else [0] * len(groups)
    for number, members in enumerate(groups.values()):
        module, data = built(members[0].config, "model"), built(members[0].config, "data")
        sets = Evaluated(module, evaluation_sets(members[0].config, seeds, count), 32)
        evaluations.append([(tuple(key), to(data, device))
                            for key, data in DataLoader(sets, batch_size=None, num_workers=workers)])
        options: dict = {"batch_size": None, "num_workers": share[number]}
        options |= {"prefetch_factor": 8} if share[number] else {}
        iterators.append(iter(DataLoader(Prepared(module, data, steps), pin_memory=device.type == "cuda", **options)))
    return list(groups.values()), iterators, evaluations


def main(argv: list[str] | None = None) -> None:
    parser = script.Parser(prog="python -m tools.together", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("trainings", nargs="+", metavar="FAMILY:SEED")
    parser.add_argument("--train", type=Path, required=True, help="photographs to train on")
    parser.add_argument("--test", type=Path, required=True, help="photographs to score on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--minutes", type=float, help="time that all of it may take")
    parser.add_argument("--count", type=int, help="samples a test set; default: one a photograph")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the test samples")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that prepare samples")
    args = parser.parse_args(argv)
    started = time.monotonic()
    cv2.setNumThreads(0)  # workers share the cores already
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)

    trainings = []
    for entry in args.trainings:
        name, _, seed = entry.partition(":")
        config = configuration(name, args.train, args.test)
        torch.manual_seed(int(seed or 0))
        trainings.append(Training(entry.replace(":", "_"), config, built(config, "model"), device))
    groups, iterators, evaluations = loaders(trainings, args.steps, args.workers, args.seeds, args.count, device)
    say(f"{sum(map(len, evaluations))} evaluation batches")
    pool = ThreadPoolExecutor(len(trainings)) if device.type == "cuda" else None
    statics: list[dict] = []
    for members, iterator in zip(groups, iterators, strict=True):
        statics.append(to(next(iterator), device))
        for training in members:
            training.inputs = statics[-1]
            training.record()
            say(f"{training.name}: {training.error or 'recorded'}")

    def take(step: int, active: list[Training]) -> None:
        rate = warmup_cosine(step, warmup=trainings[0].config.model.params.warmup_steps, end=args.steps)
        if pool is None:
            for training in active:
                training.advance(rate * training.base_lr)
            return
        ready = torch.cuda.current_stream().record_event()
        for training in active:
            training.ready = ready
        list(pool.map(lambda training: training.advance(rate * training.base_lr), active))
        for training in active:
            torch.cuda.current_stream().wait_event(training.done)

    active = trainings
    if args.minutes and device.type == "cuda":
        while active:  # these steps are undone
            states = [{name: value.clone() for name, value in t.generator.state_dict().items()} for t in active]
            torch.cuda.synchronize()
            begun = time.monotonic()
            for _ in range(20):
                take(10**9, active)
            torch.cuda.synchronize()
            each = (time.monotonic() - begun) / 20
            for training, state in zip(active, states, strict=True):
                training.restore(state)
            left = args.minutes * 60 - (time.monotonic() - started)
            say(f"{len(active)} networks: {1000 * each:.1f} ms a step of all, {each * args.steps:.0f} of {left:.0f} s")
            if each * args.steps * 1.1 + 40 <= left or len(active) == 1:
                break
            active = active[:-1]

    def report(step: int) -> None:
        write_json(args.out / "results.json", {
            "steps": step, "seconds": time.monotonic() - started, "device": str(device),
            "networks": {t.name: {"loss": t.losses, "validation": t.scores, "error": t.error,
                                  "test": getattr(t, "test", None)} for t in active}})

    args.out.mkdir(parents=True, exist_ok=True)
    begun, last = time.monotonic(), 0
    for step in range(args.steps):
        if step:
            for static, iterator in zip(statics, iterators, strict=True):
                overwrite(static, next(iterator))
        take(step, active)
        done = step + 1
        if done % 50 == 0 or done == args.steps:
            for training in active:
                training.losses.append([done, training.total.item() / (done - last)])
                training.total.zero_()
            last = done
            if done % 500 == 0:
                say(f"step {done}, {(time.monotonic() - begun) / done * 1000:.1f} ms each: " + ", ".join(
                    f"{t.name} {t.losses[-1][1]:.3f}" for t in active))
        if done in EVALUATIONS or done == args.steps:
            for members, batches in zip(groups, evaluations, strict=True):
                for training in members:
                    if training in active:
                        training.scores[str(done)] = {name: scores[0] for name, scores in
                                                      evaluate(training, batches, "val").items()}
            report(done)
    for members, batches in zip(groups, evaluations, strict=True):
        for training in (t for t in members if t in active):
            training.test = evaluate(training, batches, "test")
            nodes = {name: OmegaConf.to_container(node, resolve=True) for name in PARTS
                     if (node := OmegaConf.select(training.config, f"model.params.{name}")) is not None}
            state = {name: (value.half() if value.is_floating_point() and value.ndim > 1 else value).contiguous()
                     for name, value in training.generator.state_dict().items()}
            with atomic_write(args.out / f"{training.name}.safetensors") as path:
                save_file(state, path, metadata_of(nodes))
    report(args.steps)
    say("done")


if __name__ == "__main__":
    script.run(main)
