"""The report: complete in one file, escaped, and its curves whole after interruptions."""
import base64
import html.parser
import io
import math
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from gi.report import page as report
from gi.report import pictures as report_pictures
from gi.report import plots
from gi.report.tables import Table, console_table, print_table

HOSTILE = '<script>alert("1")</script> & \'x\' "><img src=x onerror=alert(1)>'


class Tags(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def count(self, tag):
        return sum(found == tag for found, _ in self.tags)


@pytest.fixture
def pictures():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (size, size, 3), dtype=np.uint8) for size in (16, 256)]


def everything(text, pictures):
    return report.Report(
        title=text, facts=[(text, text)], details=[(text, text)],
        curves={text: {text: ([1, 2], [0.5, 0.25])}, "empty": {}},
        sections=[report.Section(
            title=text, text=text, panels={text: plots.Panel(([0.1, 0.2], [1.0, math.inf]), {text: ([0.15], [1.0])})},
            tables=[Table([text, "b"], [[text, "2"]], {(0, 1): "best"}, title=text, note=text)],
            samples=[report.Sample(title=text, pictures=[(text, picture) for picture in pictures])])])


def test_text_is_text(pictures):
    def parsed(text):
        page = everything(text, pictures)
        page.sections[0].wide = [report.Wide(text, text, 4, 3)]
        page.sections[0].tables[0].marks[0, 0] = text
        return Tags(report.render(page))

    harmless, hostile = parsed("a"), parsed(HOSTILE)
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert [sorted(attributes) for _, attributes in hostile.tags] == [sorted(a) for _, a in harmless.tags]
    assert hostile.count("script") == 0
    assert hostile.text.count(HOSTILE) == harmless.text.count("a") >= 9


def test_nothing_is_loaded_from_elsewhere(pictures):
    text = report.render(everything("a", pictures))
    loads = [value for _, attributes in Tags(text).tags for key, value in attributes.items()
             if key in ("src", "href", "srcset", "data", "action", "poster", "style") or key.startswith("on")]
    assert len(loads) == 4 and all(value.startswith("data:image/") for value in loads)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"data:[^\"]*", "", text))
    plots = [value.partition(",")[2] for value in loads if value.startswith("data:image/svg")]
    assert len(plots) == 2
    for plot in plots:
        plot = base64.b64decode(plot).decode()
        assert not re.search(r"""(href|src)\s*=\s*["'](?!#|data:image/png)|@import|url\((?!#)|<script""", plot)


def test_small_pictures_keep_their_pixels(tmp_path, pictures):
    for picture, kind, tolerance in zip(pictures, ("png", "jpeg"), (0, 255), strict=True):
        head, _, content = report_pictures.picture_uri(picture).partition(",")
        assert head == f"data:image/{kind};base64"
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        assert shown.shape == picture.shape and np.abs(shown.astype(int) - picture).max() <= tolerance


def test_the_report_of_many_large_images_stays_small(pictures):
    random = np.random.default_rng(0)
    sizes = []
    for count in 20, 20_000:
        panel = plots.Panel((random.random(count), random.random(count)), {"mean": (np.arange(10) / 10, range(10))})
        sizes.append(len(plots.plot_scores({"a": panel, "b": panel, "c": panel})))
    assert sizes[1] < 500_000
    curves = {f"loss {i}": (list(range(100_000)), random.random(100_000)) for i in range(5)}
    assert len(plots.plot_curves({"losses": curves})) < 500_000
    head, _, content = report_pictures.picture_uri(np.zeros((1000, 3000, 3), np.uint8)).partition(",")
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (512, 171)


def test_marks_are_the_same_on_the_console_and_in_html(capsys):
    table = Table(["", "score"], [["a", "1"], ["[b]", "2"]], {(0, 1): "worse", (1, 1): "best"}, title="t [x]",
                  note="n\x1b[2J")
    drawn = console_table(table)
    assert list(drawn.columns[1].cells) == ["[red]1[/]", "[bold]2[/]"]
    print_table(table)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("t [x]", "[b]", "n\N{REPLACEMENT CHARACTER}[2J"))
    text = report.render(report.Report(title="", sections=[report.Section(title="", tables=[table])]))
    assert '<td class="worse">1</td>' in text and '<td class="best">2</td>' in text
    assert "<caption>t [x]</caption>" in text and '<p class="muted">n\x1b[2J</p>' in text


def test_a_file_that_cannot_be_text_is_still_written(tmp_path, pictures):
    report.write_report(tmp_path / "report.html", everything("caf\udce9", pictures))
    assert "caf?" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_holes_and_errors_are_visible():
    image, mask = np.full((48, 48, 3), 0.2), np.zeros((48, 48))
    mask[10:20, 10:30] = 1
    shown = report_pictures.hatch(image, mask)
    assert (shown[mask == 0] == 51).all() and (shown[mask == 1] > 120).all() and len(np.unique(shown[mask == 1])) == 2
    errors = report_pictures.error_map(image, image + 0.5 * mask[..., None])
    assert errors[mask == 0].max() < 10 and errors[mask == 1].min() > 150


def test_curves_of_an_interrupted_run_go_back_to_the_checkpoint(tmp_path):
    assert plots.read_curves(tmp_path / "nothing") == {}
    with SummaryWriter(tmp_path) as writer:
        for step in range(6):
            writer.add_scalar("loss", 10 + step, step, walltime=100 + step)
    with SummaryWriter(tmp_path, filename_suffix=".resumed") as writer:
        for step in range(3, 9):  # steps 3 to 5 come again
            writer.add_scalar("loss", 20 + step, step, walltime=200 + step)
    assert plots.read_curves(tmp_path) == {"loss": (list(range(9)), [10, 11, 12, *range(23, 29)])}
    assert plots.plot_curves({"loss": plots.read_curves(tmp_path)}).startswith(b"<?xml")


def test_the_comparison_fits_a_terminal_of_80_characters(capsys):
    table = Table(["", "PSNR in the hole", "SSIM in the hole", "L1 in the hole"],
                  [["keyframe copied along the flow", "20.08 ± 1.97", "0.599 ± 0.062", "0.0872 ± 0.0088"]])
    Console(width=80).print(console_table(table))
    printed = capsys.readouterr().out
    assert all(cell in printed for cell in table.rows[0])
