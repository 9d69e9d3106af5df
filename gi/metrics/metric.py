"""What a metric is: a pure function, and how its score is shown.

A metric is added by a function and an entry of a table, `gi.metrics.functional.IMAGE_METRICS` or
`gi.metrics.video.VIDEO_METRICS`, which everything else reads. One that is not part of this repository is a `Metric` in
a module of yours, named where metrics are chosen: `metrics: [fid, lpips, my_module.my_metric]`.
"""
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from gi.config.schema import find_target, nearest
from gi.errors import InputError
from gi.weights.files import WeightsFile

HOLE = "_hole"  # ends the key of a score inside the hole


@dataclass(frozen=True)
class Measure:
    """How a score is shown: its label, how many decimals are worth showing, whether higher is better."""

    label: str
    decimals: int
    higher: bool

    @property
    def heading(self) -> str:
        """The label, and the direction in which the score gets better."""
        return f"{self.label} {'↑' if self.higher else '↓'}"

    def text(self, score: Mapping | float | None) -> str:
        """"0.145 ± 0.074", "13.15", "n/a" for nan; "" for None."""
        if score is None:
            return ""
        if math.isnan(mean(score)):
            return "n/a"
        spread = f" ± {score['std']:.{self.decimals}f}" if isinstance(score, Mapping) else ""
        return f"{mean(score):.{self.decimals}f}{spread}"

    def difference(self, score: Mapping | float | None, reported: Mapping | float | None) -> tuple[str, str | None]:
        """`score` - `reported` as text, and whether that is "better" or "worse"."""
        if score is None or reported is None:
            return "", None
        difference = mean(score) - mean(reported)
        if math.isnan(difference):
            return "n/a", None
        text = f"{difference:+.{self.decimals}f}"
        return text, None if float(text) == 0 else "better" if (difference > 0) == self.higher else "worse"

    def best(self, scores: Sequence[Mapping | float | None]) -> int | None:
        """The position of the best finite score; None without one."""
        finite = {index: mean(score) for index, score in enumerate(scores)
                  if score is not None and math.isfinite(mean(score))}
        return (max if self.higher else min)(finite, key=finite.get, default=None)


def mean(score: Mapping | float) -> float:
    """The mean of a score that has one, or else the number that it is."""
    return float(score["mean"] if isinstance(score, Mapping) else score)


@dataclass(frozen=True)
class Network:
    """A frozen network that metrics share: `target`, built with `params` when it is needed, unless ImageMetrics or
    VideoScores are given another one as the argument `name`.
    """

    name: str
    target: str
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def weights(self) -> WeightsFile | None:
        """The file that it reads, if any, as its class says."""
        network = find_target(self.target, self.name)
        return network.file_of(self.params) if hasattr(network, "file_of") else None


@dataclass(frozen=True)
class Metric(Measure):
    """An entry of a table.

    name: key of the score in results, and what chooses the metric.
    function: of images, (prediction, image) -> (N,), both (N,3,H,W) in [0,1]; with `in_hole`, it takes a mask (N,1,H,W)
        as well; with a network, this is the last argument. Of videos, (frames) -> values, see `gi.metrics.video`.
    per_set: the score is one of a whole set. Of images, `network` gives features (N, its attribute `dimensions`), and
        the function takes those of truth and prediction; of videos, it returns the features of both, (2,n,d).
    in_hole: images are scored inside the hole as well, as `<name>_hole`.
    of: the function takes the totals of these metrics instead; computed whenever these are.
    most: the cap of a score in means.
    span: frames that one value of a video looks at; None for all. A shorter video is held at its last frame, or, if the
        metric is `optional`, scores nan, as does one with nothing to measure.
    """

    name: str
    function: Callable
    network: Network | None = None
    per_set: bool = False
    in_hole: bool = False
    of: tuple[str, ...] = ()
    span: int | None = 1
    optional: bool = False
    most: float = math.inf

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)


Table = dict[str, Metric]


def table(*metrics: Metric) -> Table:
    """Metrics by name, in the order of all tables."""
    return {metric.name: metric for metric in metrics}


def measures(metrics: Iterable[Metric]) -> dict[str, Measure]:
    """All scores of some metrics by key: those of images also inside the hole."""
    by_key = {}
    for metric in metrics:
        by_key[metric.name] = Measure(metric.label, metric.decimals, metric.higher)
        if metric.in_hole:
            by_key[metric.name + HOLE] = Measure(f"{metric.label} in the hole", metric.decimals, metric.higher)
    return by_key


def foremost(known: Mapping[str, Measure]) -> dict[str, Measure]:
    """The most telling ones: of the hole rather than of the whole image, where there are both."""
    return {key: measure for key, measure in known.items() if f"{key}{HOLE}" not in known}


def read_measures(content: Mapping, source: str = "measures") -> dict[str, Measure]:
    """Measures by key from mappings of their attributes, as files have them. Raises InputError for something else."""
    try:
        by_key = {key: Measure(**entry) for key, entry in content.items()}
    except (AttributeError, TypeError):
        by_key = None
    kinds = str, int, bool
    if by_key is None or any((type(measure.label), type(measure.decimals), type(measure.higher)) != kinds or
                             measure.decimals not in range(10) for measure in by_key.values()):
        raise InputError(f"{source}: expected label, decimals (0 to 9) and higher of every score")
    return by_key


def choices(known: Table) -> list[str]:
    """The names that metrics are chosen by."""
    return [name for name, metric in known.items() if not metric.of]


def choose(requested: Iterable[str | Metric], known: Table) -> tuple[Metric, ...]:
    """The metrics of these names in the order of the table `known`, then those given as they are or as
    "module.name", then what is computed from them. Raises InputError for unknown names, for none, and for two metrics
    of one name.
    """
    chosen: dict[str, Metric] = {}
    for item in requested:
        if isinstance(item, str) and "." in item:
            item = find_target(item, "metrics")
            if not isinstance(item, Metric):
                raise InputError(f"metrics: expected a gi.metrics.metric.Metric, got {type(item).__name__}")
        elif isinstance(item, str):
            if item not in choices(known):
                raise InputError(f"metrics: there is no {item!r}, only {', '.join(choices(known))}"
                                 f"{nearest(item, choices(known))}")
            item = known[item]
        if item != known.get(item.name, item) or item != chosen.setdefault(item.name, item):
            raise InputError(f"metrics: there are two metrics {item.name!r}")
    if not chosen:
        raise InputError(f"metrics: expected at least one of {', '.join(choices(known))}")
    return (*(metric for metric in known.values() if metric.name in chosen),
            *(metric for metric in chosen.values() if metric.name not in known),
            *(metric for metric in known.values() if metric.of and chosen.keys() >= set(metric.of)))


def build_networks(metrics: Iterable[Metric], networks: Mapping[str, nn.Module], known: Table) -> dict[str, nn.Module]:
    """{name: network} of all that `metrics` need: those in `networks`, and the others built. Raises InputError if
    weights are missing, saying which metrics do without, or if no metric knows what is given.
    """
    needed = {metric.network.name: metric.network for metric in metrics if metric.network}
    names = [*needed, *(metric.network.name for metric in known.values() if metric.network)]
    for name in networks:
        if name not in names:
            raise InputError(f"there is no parameter {name}{nearest(name, ['metrics', *names])}")
    try:
        return {name: networks.get(name) or find_target(network.target, name)(**network.params)
                for name, network in needed.items()}
    except InputError as error:
        free = [name for name in choices(known) if _weights(known[name]) is None]
        raise InputError(f"{error}; {', '.join(free)} need no weights") from error


def with_weights(known: Table) -> tuple[list[str], list[str]]:
    """The names of the metrics whose weights are there, and for each missing file a line about the metrics that need
    it.
    """
    names, absent = [], {}
    for name in choices(known):
        weights = _weights(known[name])
        if weights is None or weights.find().is_file():
            names.append(name)
        else:
            absent.setdefault(weights, []).append(name)
    return names, [f"{', '.join(lacking)}: no {weights.path}; gi fetch {weights.name} gets it, or put "
                   f"{weights.origin} there" for weights, lacking in absent.items()]


def mode_of(monitor: str, metrics: Iterable[Metric]) -> str | None:
    """"min" or "max", in which direction a logged score such as "val/two/psnr_hole" gets better; None if unknown."""
    measure = measures(metrics).get(monitor.rpartition("/")[2])
    return None if measure is None else "max" if measure.higher else "min"


def _weights(metric: Metric) -> WeightsFile | None:
    return metric.network.weights if metric.network else None
