"""Trains small networks of many families concurrently on one GPU, and scores them like `tools.train_small`.

    python -m tools.together ours:0 ours:1 lama:0 --train PHOTOGRAPHS --test OTHERS --out logs/together --minutes 9

FAMILY:SEED names a configuration of `configs/small` and the seed of its weights. All networks see the same samples in
the same order, those of `python -m tools.train_small`. A step of such a network is thousands of small kernels, which a
GPU runs faster than a program can launch them, so each network's step is recorded as a CUDA graph, and the graphs run
concurrently. Without CUDA the steps are taken in turn.

OUT gets the weights, FAMILY_SEED.safetensors, losses.json, and the scores below FAMILY_SEED/. Networks whose weights
exist are only scored. If --minutes are too few, first the networks named last are left out, then the number of steps is
reduced, and the learning rate schedule with it. A training that is interrupted starts anew; what --save wrote stays.
"""
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")  # for concurrent graphs; read when CUDA starts

import cv2  # noqa: E402
import torch  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset, Subset  # noqa: E402

from gi.commands import script  # noqa: E402
from gi.config import instantiate, load_config  # noqa: E402
from gi.data.datamodule import GuidedDataModule, collate  # noqa: E402
from gi.data.sampler import EpochSampler  # noqa: E402
from gi.errors import InputError, expect_at_least  # noqa: E402
from gi.report.results import write_json  # noqa: E402
from gi.report.tables import print_table  # noqa: E402
from gi.training.layout import lay_out  # noqa: E402
from gi.training.module import GuidedInpainting  # noqa: E402
from gi.training.schedule import warmup_cosine  # noqa: E402
from gi.weights.export import write_generator  # noqa: E402
from tools.families import CONFIGS, Budget, named, overrides, score, scores, stages, tables  # noqa: E402

MEASURED = 20  # steps timed to decide how many networks there is time for
SETTLED = 500  # steps after which the number of steps is adapted to the time left


@dataclass(eq=False)
class Training:
    """A network, its optimiser, and its step, on CUDA as a graph and on a stream of its own."""

    name: str
    config: DictConfig
    module: GuidedInpainting
    device: torch.device
    batch: dict = field(default_factory=dict)  # prepared; a graph reads it at the address it was recorded with
    losses: list[list[float]] = field(default_factory=list)  # [step, mean since the previous entry]

    def __post_init__(self):
        cuda, params = self.device.type == "cuda", self.config.model.params
        self.generator = self.module.generator.to(self.device).train()
        lay_out([self.generator], cuda)
        self.objective = instantiate(OmegaConf.to_container(params.objective, resolve=True), "objective")
        self.base_lr = params.base_lr * self.config.data.params.batch_size
        self.rate = torch.zeros((), device=self.device)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=self.rate, betas=tuple(params.betas),
                                          fused=True, capturable=cuda)
        self.total = torch.zeros((), device=self.device)  # of the losses
        self.stream = torch.cuda.Stream(self.device) if cuda else None
        self.graph: torch.cuda.CUDAGraph | None = None

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.objective.generator(self.module.predict(self.batch, self.generator), self.batch, None)
        loss = sum(terms.values())
        loss.backward()
        nn.utils.clip_grad_norm_(self.generator.parameters(), self.config.lightning.trainer.gradient_clip_val)
        self.optimizer.step()
        self.total += loss.detach()

    def record(self) -> None:
        """Records the step as a graph. Weights, statistics and moments are unchanged afterwards."""
        if self.stream is None:
            return
        before = self.state()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(3):
                self.step()
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        # On its own stream, so that no two graphs share a workspace. Loaders' threads may use CUDA meanwhile.
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            self.step()
        torch.cuda.synchronize()
        self.restart(before)

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.generator.state_dict().items()}

    def restart(self, weights: dict[str, Tensor]) -> None:
        """Sets the weights and resets the optimiser, in place, since a graph reads fixed addresses."""
        for name, value in self.generator.state_dict().items():
            value.copy_(weights[name])
        for moments in self.optimizer.state.values():
            for value in moments.values():
                value.zero_()
        self.total.zero_()

    def advance(self, rate: float, ready: "torch.cuda.Event | None") -> "torch.cuda.Event | None":
        """Takes a step; on CUDA it starts after the event `ready`, and the event of its end is returned."""
        if self.graph is None:
            self.rate.fill_(rate)
            self.step()
            return None
        self.stream.wait_event(ready)
        with torch.cuda.stream(self.stream):
            self.rate.fill_(rate)
            self.graph.replay()
            return self.stream.record_event()

    def save(self, path: Path) -> None:
        write_generator(self.config, self.generator.state_dict(), path)


class Prepared(Dataset):
    """Training batches by step, prepared as inputs of the networks; a batch depends on nothing but its step."""

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
        batch = collate([self.data.train[entry] for entry in self.epoch[1][position]])
        data = self.module.prepare(batch)
        return data | {"inputs": list(data["inputs"])}


class Group:
    """Networks that get the same batches, which are copied one after the other into the same memory of the device."""

    def __init__(self, members: list[Training], steps: int):
        config, self.device = members[0].config, members[0].device
        self.members, self.batches = members, Prepared(built(config, "model"), built(config, "data"), steps)
        self.batch = on_device(self.batches[0], self.device)
        begun = time.monotonic()
        self.batches[min(1, steps - 1)]
        self.seconds = time.monotonic() - begun  # to prepare a batch
        for member in members:
            member.batch = self.batch

    def start(self, workers: int) -> None:
        """Starts the workers that prepare the batches after the first."""
        options: dict = {"prefetch_factor": 8} if workers else {}
        self.rest: Iterator[dict] = iter(DataLoader(
            Subset(self.batches, range(1, len(self.batches))), batch_size=None, num_workers=workers,
            pin_memory=self.device.type == "cuda", **options))

    def proceed(self) -> None:
        """Copies the next batch over the current one."""
        batch = next(self.rest)
        for key, value in batch.items():
            for old, new in zip(*([v] if isinstance(v, Tensor) else v for v in (self.batch[key], value)), strict=True):
                old.copy_(new, non_blocking=True)


class Together:
    """Takes steps of all networks, each with its group's batch."""

    def __init__(self, groups: list[Group], workers: int):
        self.groups, self.members = groups, [member for group in groups for member in group.members]
        cuda = groups[0].device.type == "cuda"
        self.pool = ThreadPoolExecutor(len(self.members)) if cuda else None
        seconds = sum(group.seconds for group in groups)
        for group in groups:
            group.start(max(1, round(workers * group.seconds / seconds)) if workers else 0)
        for member in self.members:
            member.record()

    def step(self, multiplier: float) -> None:
        """Starts a step of all networks; work submitted to the current stream afterwards waits for it."""
        if self.pool is None:
            for member in self.members:
                member.advance(multiplier * member.base_lr, None)
            return
        stream = torch.cuda.current_stream()
        ready = stream.record_event()
        for finished in self.pool.map(lambda member: member.advance(multiplier * member.base_lr, ready), self.members):
            stream.wait_event(finished)

    def seconds_a_step(self) -> float:
        """Seconds per step, measured without preparing batches; the networks are unchanged afterwards."""
        states = [member.state() for member in self.members]
        torch.cuda.synchronize()
        begun = time.monotonic()
        for _ in range(MEASURED):
            self.step(0.0)
        torch.cuda.synchronize()
        seconds = (time.monotonic() - begun) / MEASURED
        for member, state in zip(self.members, states, strict=True):
            member.restart(state)
        return seconds


def built(config: DictConfig, part: str):
    return instantiate(OmegaConf.to_container(config[part], resolve=True), part)


def on_device(batch: dict, device: torch.device) -> dict:
    """Copies, also on the CPU, where batches are overwritten as well."""
    return {key: value.to(device, copy=True) if isinstance(value, Tensor) else [v.to(device, copy=True) for v in value]
            for key, value in batch.items()}


def grouped(trainings: list[Training], steps: int) -> list[Group]:
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        nodes = training.config.data.params.train, training.config.model.params.guidance
        same = json.dumps([OmegaConf.to_container(node, resolve=True) for node in nodes])
        groups.setdefault(same, []).append(training)
    return [Group(members, steps) for members in groups.values()]


def train(trainings: list[Training], budget: Budget, out: Path, minutes: float | None, save: list[int], workers: int
          ) -> None:
    """Trains all networks, or those there is time for, and writes their weights to `out`."""
    started, steps = time.monotonic(), budget.steps

    def left() -> float:
        return 60 * minutes - (time.monotonic() - started) if minutes else float("inf")

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)

    together = Together(grouped(trainings, steps), workers)
    say(f"{len(trainings)} networks, {len(together.groups)} kinds of batches")
    while minutes and together.pool and len(together.members) > 1 and together.seconds_a_step() * steps > left():
        dropped = together.members.pop(max(range(len(together.members)),
                                           key=lambda i: trainings.index(together.members[i])))
        say(f"{dropped.name} is left out, for lack of time")
    warmup, begun, last = trainings[0].config.model.params.warmup_steps, time.monotonic(), 0
    done = 0
    while done < steps:
        if done:
            for group in together.groups:
                group.proceed()
        together.step(warmup_cosine(done, warmup=warmup, end=steps))
        done += 1
        if done == SETTLED and left() < float("inf"):
            each = (time.monotonic() - begun) / done
            steps = max(done, min(steps, done + int((left() - 10) / each)))
        if done % 50 == 0 or done == steps:
            for member in together.members:
                member.losses.append([done, member.total.item() / (done - last)])
                member.total.zero_()
            last = done
            if done % 500 == 0:
                each = (time.monotonic() - begun) / done
                say(f"step {done}/{steps}, left {(steps - done) * each:.0f} s: " + ", ".join(
                    f"{member.name} {member.losses[-1][1]:.3f}" for member in together.members))
        if done in save:
            for member in together.members:
                member.save(out / f"{member.name}_{done}.safetensors")
    write_json(out / "losses.json", {member.name: member.losses for member in together.members})
    for member in together.members:
        member.save(out / f"{member.name}.safetensors")


def main(argv: list[str] | None = None) -> None:
    parser = script.Parser(prog="python -m tools.together", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("networks", nargs="+", metavar="FAMILY:SEED")
    parser.add_argument("--train", type=Path, default=Path("data/photos/train"), help="photographs to train on")
    parser.add_argument("--test", type=Path, default=Path("data/photos/val"), help="photographs to score on")
    parser.add_argument("--out", type=Path, default=Path("logs/together"))
    parser.add_argument("--steps", type=int, default=7000, help="optimiser steps")
    parser.add_argument("--minutes", type=float, help="time limit of the training")
    parser.add_argument("--save", type=int, nargs="*", default=[], help="steps after which weights are saved as well")
    parser.add_argument("--count", type=int, help="samples a test set; default: one a photograph")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of the test samples; 0: do not score")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that prepare batches")
    args = parser.parse_args(argv)
    expect_at_least(1, steps=args.steps)
    expect_at_least(0, seeds=args.seeds, workers=args.workers)
    budget = Budget(train=args.train, test=args.test, steps=args.steps, count=args.count, seeds=args.seeds)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cv2.setNumThreads(0)  # processes that prepare batches share the cores already
    args.out.mkdir(parents=True, exist_ok=True)
    names, trainings = {}, []
    for network in args.networks:
        family, seed = named(network)
        name = f"{family}_{seed}"
        names[name] = family
        if (args.out / f"{name}.safetensors").is_file():
            continue
        config = load_config([CONFIGS / f"{family}.yaml"], overrides(budget))
        if stages(family) or set(config.model.params) & {"discriminator", "average_decay"}:
            raise InputError(f"{network}: expected a family without discriminator, average and earlier stage, which "
                             "python -m tools.train_small trains")
        torch.manual_seed(seed)
        trainings.append(Training(name, config, built(config, "model"), device))
    if trainings:
        train(trainings, budget, args.out, args.minutes, args.save, args.workers)
    results = {}
    for name, family in names.items():
        weights = args.out / f"{name}.safetensors"
        if weights.is_file() and args.seeds:
            score(args.out / name, CONFIGS / f"{family}.yaml", weights, budget, *overrides(budget))
            results[name] = {seed: scores(args.out / name, seed) for seed in range(args.seeds)}
    for table in tables(results):
        print_table(table)


if __name__ == "__main__":
    script.run(main)
