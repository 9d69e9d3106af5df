"""Benchmarks of training, prediction, video and loading on a GPU."""
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from gi.data.datamodule import GuidedDataModule
from gi.data.pairs import GuidedPairs
from gi.data.sources import FolderTree
from tools.benchmark import paths
from tools.benchmark.internal import internal
from tools.benchmark.parts import Settings
from tools.benchmark.timing import Meter, Result
from tools.benchmark.training import train_step
from tools.benchmark.video import video_targets
from tools.gpu.settings import QuickParts, Sizes, network_config, set_tf32

CONVOLUTIONS = True, False  # torch's default: TF32 for convolutions, not for matrix products
ALL, NONE = (True, True), (False, False)
# Training steps of `ours`: precision, TF32, further options. From the most to the least informative.
VARIANTS = {
    "float32": ("32-true", NONE, {}),
    "tf32": ("32-true", ALL, {}),
    "bf16-mixed": ("bf16-mixed", ALL, {}),
    "bf16-mixed, contiguous": ("bf16-mixed", ALL, {"channels_last": False}),
    "tf32, contiguous": ("32-true", ALL, {"channels_last": False}),
    "tf32 of convolutions only": ("32-true", CONVOLUTIONS, {}),
    "16-mixed": ("16-mixed", ALL, {}),
    "bf16-mixed, cudnn.benchmark": ("bf16-mixed", ALL, {"cudnn_benchmark": True}),
}
COMPILED = {
    "bf16-mixed, compiled": ("bf16-mixed", ALL, {"compile": True}),
    "bf16-mixed, contiguous, compiled": ("bf16-mixed", ALL, {"compile": True, "channels_last": False}),
}
PROFILED_ROWS = 25


class Timings:
    """Runs paths of the benchmark at the sizes of a run; every case goes into `result` as soon as it is measured."""

    def __init__(self, device: torch.device, sizes: Sizes, result: dict, say: Callable[[str], None]):
        self.device, self.sizes, self.result, self.say = device, sizes, result, say

    def parts(self, config: str = "ours", *, precision: str = "32-true", batch: int | None = None,
              overrides: tuple[str, ...] = (), kind: type[QuickParts] = QuickParts) -> QuickParts:
        sizes = self.sizes
        settings = Settings(config=network_config(config, sizes, overrides), device=self.device, precision=precision,
                            batch_size=batch or sizes.batch, size=sizes.image, repeats=sizes.repeats,
                            video=sizes.video)
        return kind(settings)

    def keep(self, cases: Iterator[tuple[str, Result]], name: Callable[[str], str] = str) -> None:
        for case, result in cases:
            self.add(name(case), result.to_dict())

    def add(self, name: str, timing: dict) -> None:
        self.result[name] = timing
        memory = f", {timing['memory'] / 2**30:.2f} GiB" if timing.get("memory") else ""
        self.say(f"  {name}: {1000 * timing['median']:.2f} ms a {timing['unit']}{memory}")

    def attempt(self, name: str, work: Callable[[], object]) -> None:
        """Runs a case; a failure, such as running out of memory, is recorded and the next cases go on."""
        try:
            work()
        except Exception as error:
            self.result[name] = {"error": f"{type(error).__name__}: {str(error)[:1000]}"}
            self.say(f"  {name}: {type(error).__name__}: {str(error)[:300]}")
        finally:
            set_tf32(*CONVOLUTIONS)
            torch.backends.cudnn.benchmark = False
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    # Cases ------------------------------------------------------------------------------------------------------------

    def training_steps(self, variants: dict[str, tuple] | None = None) -> None:
        for name, (precision, tf32, options) in (variants or VARIANTS).items():
            if precision == "16-mixed" and self.device.type == "cpu":
                continue
            self.attempt(name, lambda: self._training_step(name, precision, tf32, **options))  # noqa: B023  called now

    def _training_step(self, name, precision, tf32, *, cudnn_benchmark=False, kind=QuickParts, config="ours",
                       overrides=(), **model):
        set_tf32(*tf32)
        torch.backends.cudnn.benchmark = cudnn_benchmark
        overrides = *overrides, *(f"model.params.{key}={str(value).lower()}" for key, value in model.items())
        with self.parts(config, precision=precision, overrides=overrides, kind=kind) as parts:
            self.keep(train_step(parts), lambda _: name)

    def compiled_steps(self) -> None:
        """Compilation happens in the warm-up laps, so the time of the whole case is recorded as well."""
        for name, (precision, tf32, options) in itertools.islice(COMPILED.items(), 1 if self.sizes.tiny else None):
            start = time.monotonic()
            self.attempt(name, lambda: self._training_step(name, precision, tf32, **options))  # noqa: B023  called now
            self.result[name]["seconds with compilation"] = time.monotonic() - start

    def profile(self) -> None:
        """Profiles training steps: time by kernel."""
        for name in "bf16-mixed", "tf32":
            precision, tf32, options = VARIANTS[name]
            self.attempt(name, lambda: self._training_step(name, precision, tf32, kind=ProfiledParts,  # noqa: B023
                                                           **options))  # noqa: B023

    def memory_of_ours_big(self) -> None:
        """The peak of a training step, weights and everything else in GPU memory included."""
        for precision in "bf16-mixed", "32-true":
            for again in False, True:
                name = f"{precision}, checkpoint_blocks {again}"
                override = f"model.params.generator.params.checkpoint_blocks={str(again).lower()}"
                self.attempt(name, lambda: self._training_step(  # noqa: B023  called now
                    name, precision, ALL, config="ours_big", overrides=(override,)))  # noqa: B023

    def predictions(self) -> None:
        for batch in self.sizes.batches:
            for precision in "32-true", "bf16-mixed":
                def work():
                    with self.parts(precision=precision, batch=batch) as parts:  # noqa: B023  called now
                        self.keep(paths.predict(parts), lambda case: f"{precision}, batch {batch}, {case}")  # noqa: B023
                self.attempt(f"{precision}, batch {batch}", work)

    def flow(self) -> None:
        def work():
            with self.parts() as parts:
                self.keep(paths.flow(parts), lambda case: f"{case}, batch {self.sizes.batch}")
        self.attempt("flow", work)

    def video(self) -> None:
        """Key targets with 14 guides, with and without cached streams."""
        for precision in "32-true", "bf16-mixed":
            def work():
                with self.parts(precision=precision) as parts:  # noqa: B023  called now
                    self.keep(video_targets(parts), lambda case: f"{precision}, {case}")  # noqa: B023
            self.attempt(precision, work)

    def internal(self) -> None:
        """Fitting a network to a video, in each precision."""
        for batch in self.sizes.batches:
            for name in "float32", "tf32", "bf16-mixed":
                precision, tf32, _ = VARIANTS[name]

                def work():
                    set_tf32(*tf32)  # noqa: B023  called now
                    with self.parts(precision=precision, batch=batch) as parts:  # noqa: B023
                        self.keep(internal(parts), lambda case: f"{name}, batch {batch}, {case}")  # noqa: B023
                self.attempt(f"{name}, batch {batch}", work)

    def loading(self, photographs: Path) -> None:
        """Training samples per second, loaded by `sizes.workers` processes."""
        with self.parts() as parts:
            for name, images in ("photographs given", photographs), ("a photograph of 1024x768", parts.jpeg.parent):
                def work():
                    self.result[name] = self._load(images)  # noqa: B023  called now
                    self.say(f"  {name}: {self.result[name]['samples a second']:.0f} samples a second")  # noqa: B023
                self.attempt(name, work)

    def _load(self, images):
        sizes = self.sizes
        pairs = GuidedPairs(images=FolderTree(root=str(images)), n_sources=2, size=sizes.image,
                            margin=round(sizes.image * 200 / 256), min_side=32, length=1 << 20, on_bad_image="skip")
        module = GuidedDataModule(batch_size=sizes.batch, train=pairs, num_workers=sizes.workers,
                                  pin_memory=self.device.type == "cuda")
        batches, count, times = iter(module.train_dataloader()), 0, []
        begin = time.monotonic()
        for _ in range(max(4, 2 * sizes.workers)):  # batches prepared while the workers started
            next(batches)
        start = last = time.monotonic()
        while last - start < sizes.loading:
            next(batches)
            count, now = count + sizes.batch, time.monotonic()
            times.append(now - last)
            last = now
        return {"samples a second": count / (last - start), "workers": sizes.workers, "batch": sizes.batch,
                "seconds to start": start - begin, "longest wait": max(times), "median wait": statistics.median(times)}


class ProfiledParts(QuickParts):
    """Parts whose meters profile the kernels of the last lap."""

    def meter(self, **options) -> Meter:
        return ProfiledMeter(self.device, repeats=1, warmup=2, count=False)


class ProfiledMeter(Meter):
    """A meter whose findings are the milliseconds of the slowest kernels."""

    def __enter__(self):
        self.profiler = None
        if self._lap == self.laps - 1:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if self.device.type == "cuda":
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self.profiler = torch.profiler.profile(activities=activities)
            self.profiler.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        if self.profiler is not None:
            self.profiler.__exit__(*error)

    def result(self, unit: str, units: int = 1, notes=()) -> Result:
        result = super().result(unit, units, notes)
        on_card = self.device.type == "cuda"
        rows = self.profiler.key_averages()
        if on_card:  # kernels only: operators would count their time twice
            rows = [row for row in rows if row.device_type == torch.autograd.DeviceType.CUDA
                    and not getattr(row, "is_user_annotation", False)]
        own = {row.key: (row.self_device_time_total if on_card else row.self_cpu_time_total) / 1000 for row in rows}
        started = float(sum(row.count for row in rows))
        result.findings = {"all kernels, ms": sum(own.values()), "kernels started": started}
        longest = sorted(own, key=own.get, reverse=True)[:PROFILED_ROWS]
        result.findings |= {f"{key[:150]}, ms": own[key] for key in longest}
        return result
