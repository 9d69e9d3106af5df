"""A run's report: one HTML file with everything in it, to open anywhere and to send to anybody.

Pictures are data URIs, there are no scripts, and nothing is loaded from elsewhere. All text is escaped.
"""
import base64
import html
import io as bytestreams
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gi.errors import InputError
from gi.media.io import atomic_write
from gi.report.tables import Table

LARGEST = 512
_STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 72rem; margin: 0 auto;
       padding: 1rem 1.25rem 4rem }
h1 { line-height: 1.2; margin: .5rem 0 } h2 { margin: 2.5rem 0 .5rem; border-top: 1px solid #ddd; padding-top: 1.5rem }
h3 { margin: 1.5rem 0 .5rem; font-size: 1rem }
p { margin: .5rem 0; max-width: 46rem } .muted { color: #666 }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: 1rem 0 }
.facts dt { color: #666 } .facts dd { margin: 0; overflow-wrap: anywhere }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin: .75rem 0 }
th, td { padding: .35rem .9rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap;
         font-variant-numeric: tabular-nums }
th { color: #666; font-weight: 600; white-space: normal; vertical-align: bottom }
th:first-child, td:first-child { text-align: left; padding-left: 0 } td.best { font-weight: 700 }
td.better { color: #1a7f37 } td.worse { color: #b3261e }
caption { text-align: left; font-weight: 600; padding: .25rem 0 }
.pictures { display: flex; flex-wrap: wrap; gap: .75rem } figure { margin: 0; width: 9.5rem }
figure img { width: 100%; display: block; image-rendering: pixelated; border-radius: 3px }
figure.wide { width: auto; margin: 1rem 0 }
figure.wide img, figure.wide video { width: auto; height: auto; max-width: 100%; image-rendering: auto }
figcaption { font-size: .8rem; line-height: 1.3; color: #444; margin-top: .25rem; overflow-wrap: anywhere }
.plot { max-width: 100%; height: auto }
pre { overflow-x: auto; background: #f6f6f6; padding: 1rem; font-size: .8rem }
@media (max-width: 40rem) { figure { width: calc(50% - .5rem) } .facts { grid-template-columns: 1fr; gap: 0 }
  .facts dd { margin-bottom: .4rem } figure.wide { width: auto } }
"""


@dataclass
class Sample:
    """One evaluated image: pictures side by side, each a caption and an array uint8 (H, W, 3)."""

    title: str
    pictures: Sequence[tuple[str, np.ndarray]]


@dataclass
class Wide:
    """A picture or a film (.mp4) across the page, `width` x `height`, from `path` below the report's folder. The
    browser loads it when it comes into view; for reports of more pictures than one file should hold.
    """

    caption: str
    path: str
    width: int
    height: int


@dataclass
class Panel:
    """A score against hole area: a dot an image, and lines of means, of which the first is of these images.

    All are pairs (shares of the image, scores).
    """

    images: tuple[Sequence[float], Sequence[float]]
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)


@dataclass
class Section:
    """What is said about one evaluation set or video. `panels` are by the name of their score, `curves` as a report's,
    over the number of the frame.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    panels: Mapping[str, Panel] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    wide: Sequence[Wide] = ()
    curves: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]] = field(default_factory=dict)


@dataclass
class Report:
    """Everything in a report.

    Attributes:
        title: heading of the page.
        facts: pairs such as ("steps", "1000").
        sections: in the order of the page.
        curves: groups of curves as `read_curves` returns them, by the label of their common axis; one plot a group.
        details: pairs (summary, text) folded away at the end, such as the configuration.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = ()
    curves: dict[str, dict[str, tuple[list[int], list[float]]]] = field(default_factory=dict)
    details: Sequence[tuple[str, str]] = ()


def write_report(path: str | Path, report: Report) -> None:
    """Writes the HTML file, completely or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The HTML of a report."""
    facts = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in report.facts)
    curves = {label: group for label, group in report.curves.items() if group}
    training = f"<h2>Training</h2>{_plot('curves', plot_curves(curves))}" if curves else ""
    details = "".join(f"<details><summary>{_text(summary)}</summary><pre>{_text(text)}</pre></details>"
                      for summary, text in report.details)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(report.title)}</title><style>{_STYLE}</style></head><body>
<h1>{_text(report.title)}</h1><dl class="facts">{facts}</dl>
{"".join(map(_section, report.sections))}
{training}
{f"<h2>Details</h2>{details}" if details else ""}
</body></html>
"""


def _section(section: Section) -> str:
    parts = [f"<h2>{_text(section.title)}</h2>"]
    parts += [f"<p>{_text(section.text)}</p>"] if section.text else []
    parts += map(_table, section.tables)
    parts += [_plot("scores", plot_scores(section.panels))] if section.panels else []
    for sample in section.samples:
        figures = "".join(f'<figure><img alt="" src="{picture_uri(picture)}"><figcaption>{_text(caption)}</figcaption>'
                          "</figure>" for caption, picture in sample.pictures)
        parts.append(f'<h3>{_text(sample.title)}</h3><div class="pictures">{figures}</div>')
    parts += map(_wide, section.wide)
    parts += [_plot("curves", plot_curves(section.curves, "frame"))] if section.curves else []
    return "\n".join(parts)


def _wide(wide: Wide) -> str:
    place = f'width="{wide.width}" height="{wide.height}" src="{_text(quote(wide.path))}"'
    shown = f'<video controls autoplay loop muted playsinline preload="metadata" {place}></video>' if \
        wide.path.endswith(".mp4") else f'<img alt="" loading="lazy" {place}>'
    return f'<figure class="wide">{shown}<figcaption>{_text(wide.caption)}</figcaption></figure>'


def _table(table: Table) -> str:
    title = f"<caption>{_text(table.title)}</caption>" if table.title else ""
    note = f'<p class="muted">{_text(table.note)}</p>' if table.note else ""
    heading = "".join(f"<th>{_text(cell)}</th>" for cell in table.heading)
    rows = "\n".join("<tr>" + "".join(f'<td class="{_text(table.marks[r, c])}">{_text(cell)}</td>'
                                      if (r, c) in table.marks else f"<td>{_text(cell)}</td>"
                                      for c, cell in enumerate(row)) + "</tr>" for r, row in enumerate(table.rows))
    return (f'<div class="scroll"><table>{title}<thead><tr>{heading}</tr></thead><tbody>\n{rows}\n</tbody></table>'
            f"</div>{note}")


def _text(value: object) -> str:
    return html.escape(_printable(value))


def _printable(value: object) -> str:
    """Names of files may hold bytes that are no text (surrogates), which UTF-8 and fonts refuse."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


# Pictures -------------------------------------------------------------------------------------------------------------

def picture_uri(picture: np.ndarray) -> str:
    """uint8 (H, W, 3) as a data URI: PNG for small pictures, whose pixels are to be seen, JPEG for large ones.

    Pictures of more than `LARGEST` pixels on a side are made smaller, so that the report of any set stays small.
    """
    large = picture.shape[0] * picture.shape[1] > 128 * 128
    image, stream = Image.fromarray(np.ascontiguousarray(picture)), bytestreams.BytesIO()
    image.thumbnail((LARGEST, LARGEST))
    image.save(stream, **({"format": "JPEG", "quality": 90} if large else {"format": "PNG", "optimize": True}))
    return _data_uri("image/jpeg" if large else "image/png", stream.getvalue())


def hatch(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Shows a hole: `image` float (H, W, 3) in [0,1] with grey stripes where `mask` (H, W) is 1, as uint8 (H, W, 3)."""
    rows, columns = np.indices(mask.shape)
    stripes = np.where((rows + columns) // max(2, min(mask.shape) // 24) % 2, 0.62, 0.5)
    return to_uint8(np.where(mask[..., None] > 0.5, stripes[..., None], image))


def error_map(a: np.ndarray, b: np.ndarray, largest: float = 0.5) -> np.ndarray:
    """Mean absolute difference over colours of two (H, W, 3) images in [0,1]: black for 0 to bright at `largest`."""
    difference = np.abs(a - b).mean(axis=-1) / largest
    return cv2.cvtColor(cv2.applyColorMap(to_uint8(difference), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def to_uint8(image: np.ndarray) -> np.ndarray:
    return (255 * np.clip(image, 0, 1)).round().astype(np.uint8)


def _label(name: str) -> str:
    return _printable(name).replace("$", r"\$")  # dollars would start a formula


def _plot(name: str, svg: bytes) -> str:
    return f'<img class="plot" alt="{name}" src="{_data_uri("image/svg+xml", svg)}">'


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


# Plots ----------------------------------------------------------------------------------------------------------------

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
    """{axis: {name: (steps, values)}} as an SVG file with one plot a group, three in a row.

    Of long curves, means over equal parts are drawn.
    """
    figure, axes = _figure(groups)
    for axis, group in zip(axes, groups.values(), strict=True):
        for name, (steps, values) in group.items():
            marker = "o" if len(steps) < 20 else None
            axis.plot(_thinned(steps), _thinned(values), label=_label(name), linewidth=1.3, marker=marker, markersize=3)
        axis.set(xlabel=over)
        if any(group):  # a curve without a name needs none
            axis.legend(frameon=False, fontsize="small")
    return _svg(figure)


def plot_scores(panels: Mapping[str, Panel]) -> bytes:
    """{axis: panel} as an SVG file with one plot a panel, three in a row.

    The dots are a picture inside it, so that thousands of images need no more space than a few.
    """
    figure, axes = _figure(panels)
    for axis, panel in zip(axes, panels.values(), strict=True):
        areas, values = (np.asarray(column, dtype=float) for column in panel.images)
        areas, values = areas[np.isfinite(values)], values[np.isfinite(values)]
        axis.scatter(100 * areas, values, s=12, alpha=0.4 if len(values) < 500 else 0.2, color="C0", linewidths=0,
                     rasterized=True, label="one image")
        for i, (name, (x, y)) in enumerate(panel.lines.items()):
            axis.plot(100 * np.asarray(x), y, label=_label(name), color=f"C{i}", marker="o", markersize=4)
        axis.set(xlabel="hole, % of the image")
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    return _svg(figure)


def _figure(titles: Sequence[str]) -> tuple[Figure, list]:
    """A figure and its plots, one a title, three in a row."""
    columns = min(3, len(titles))
    lines = -(-len(titles) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * lines + 0.4), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flatten())
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(_label(title), fontsize="medium")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(titles):]:
        axis.set_visible(False)
    return figure, axes[:len(titles)]


def _thinned(values: Sequence[float], longest: int = 400) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if len(values) <= longest:
        return values
    return np.array([part.mean() for part in np.array_split(values, longest)])


def _svg(figure: Figure) -> bytes:
    stream = bytestreams.BytesIO()
    figure.savefig(stream, format="svg", dpi=160, metadata={"Date": None})
    return stream.getvalue()
