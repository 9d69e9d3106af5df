"""A page of results: one HTML file with everything in it, to open anywhere and to send to anybody.

Pictures are data URIs, there are no scripts, and nothing is loaded from elsewhere. The template escapes all text.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from gi.media.io import atomic_write
from gi.report.pictures import data_uri, picture_uri
from gi.report.plots import Panel, plot_curves, plot_scores
from gi.report.tables import Table, printable


@dataclass
class Sample:
    """One evaluated image: pictures side by side, each a caption and an array uint8 (H, W, 3)."""

    title: str
    pictures: Sequence[tuple[str, np.ndarray]]


@dataclass
class Wide:
    """A picture or a film (.mp4) across the page, in pixels; at `path` below the report's folder, where the browser
    loads it from when it comes into view.
    """

    caption: str
    path: str
    width: int
    height: int


@dataclass
class Section:
    """A section about one evaluation set or video. `panels` are by the name of their score, `curves` as a report's,
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
    """A page. `facts` are pairs such as ("steps", "1000"); `curves` groups of curves as `read_curves` returns them, by
    the label of their common axis, one plot a group; `details` pairs (summary, text), folded away at the end.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    sections: Sequence[Section] = ()
    curves: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]] = field(default_factory=dict)
    details: Sequence[tuple[str, str]] = ()


def write_report(path: str | Path, report: Report) -> None:
    """Writes the HTML file, completely or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(render(report), encoding="utf-8")


def render(report: Report) -> str:
    """The HTML of a report."""
    environment = Environment(loader=PackageLoader("gi.report"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(picture_uri=picture_uri, svg_uri=lambda svg: data_uri("image/svg+xml", svg),
                               plot_curves=plot_curves, plot_scores=plot_scores)
    curves = {label: group for label, group in report.curves.items() if group}
    return printable(environment.get_template("report.html.j2").render(report=report, curves=curves))
