"""Curves of a training and scores against hole area, as SVG."""
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gi.errors import InputError
from gi.report.tables import printable


@dataclass
class Panel:
    """A score against hole area, as pairs (shares of the image, scores): a dot an image, and lines of means by name, of
    which the first is of these images.
    """

    images: tuple[Sequence[float], Sequence[float]]
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)


def read_curves(folder: str | Path) -> dict[str, tuple[list[int], list[float]]]:
    """{name: (steps, values)} of all scalars in a folder of TensorBoard event files; {} if there are none.

    A resumed run goes back to its checkpoint and repeats steps, in a file of its own: of a repeated step the latest
    value counts. So it does not matter how often a run was interrupted.
    """
    if not Path(folder).is_dir():
        return {}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "tensors": 1},
                              purge_orphaned_data=False)  # that would also drop what was logged out of order
    try:
        events.Reload()
    except Exception as error:  # a damaged file can make the reader raise anything
        raise InputError(f"{folder}: cannot read these event files: {error}") from error
    curves = {}
    for name in events.Tags()["scalars"]:
        by_step = {event.step: event.value for event in sorted(events.Scalars(name), key=lambda event: event.wall_time)}
        curves[name] = (sorted(by_step), [by_step[step] for step in sorted(by_step)])
    return curves


def plot_curves(
    groups: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]], over: str = "optimiser step"
) -> bytes:
    """{axis: {name: (steps, values)}} as an SVG file with a plot a group; of long curves, means over equal parts."""
    figure = _figure(groups)
    for axis, group in zip(figure.axes, groups.values(), strict=True):
        for name, (steps, values) in group.items():
            marker = "o" if len(steps) < 20 else None
            axis.plot(_thinned(steps), _thinned(values), label=_label(name), linewidth=1.3, marker=marker, markersize=3)
        axis.set(xlabel=over)
        if any(group):  # a curve without a name needs none
            axis.legend(frameon=False, fontsize="small")
    return _svg(figure)


def plot_scores(panels: Mapping[str, Panel]) -> bytes:
    """{axis: panel} as an SVG file with a plot a panel. The dots are rasterised, so that thousands take no more space.
    """
    figure = _figure(panels)
    for axis, panel in zip(figure.axes, panels.values(), strict=True):
        areas, values = (np.asarray(column, dtype=float) for column in panel.images)
        areas, values = areas[np.isfinite(values)], values[np.isfinite(values)]
        axis.scatter(100 * areas, values, s=12, alpha=0.4 if len(values) < 500 else 0.2, color="C0", linewidths=0,
                     rasterized=True, label="one image")
        for i, (name, (x, y)) in enumerate(panel.lines.items()):
            axis.plot(100 * np.asarray(x), y, label=_label(name), color=f"C{i}", marker="o", markersize=4)
        axis.set(xlabel="hole, % of the image")
    handles = {label: handle for axis in figure.axes
               for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return _svg(figure)


def _label(name: str) -> str:
    return printable(name).replace("$", r"\$")  # dollars would start a formula


def _figure(titles: Collection[str]) -> Figure:
    """A figure with a plot for each title, three in a row."""
    columns = min(3, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.4), layout="constrained")
    for position, title in enumerate(titles, start=1):
        axis = figure.add_subplot(rows, columns, position)
        axis.set_title(_label(title), fontsize="medium")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _thinned(values: Sequence[float], longest: int = 400) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values if len(values) <= longest else np.array([part.mean() for part in np.array_split(values, longest)])


def _svg(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", dpi=160, metadata={"Date": None})
    return stream.getvalue()
