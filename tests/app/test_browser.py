"""The page in a real browser: Debian's Chromium, headless, steered by Playwright."""
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from gi.media import io
from gi.media.files import open_video
from tests.app.conftest import wait_for
from tests.video_helpers import moving_pictures, set_turn, write_video

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")]


class Server:
    """`gi app` in a folder of its own, until stop()."""

    def __init__(self, folder: Path, *options: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder, self.address = folder, f"http://127.0.0.1:{port}"
        self.command = [sys.executable, "-m", "gi", "app", str(folder), "--port", str(port), "--no-browser", *options]
        self.start()

    def start(self) -> None:
        began = time.monotonic()
        self.process = subprocess.Popen(self.command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while True:
            try:
                urllib.request.urlopen(self.address, timeout=5).close()
                break
            except OSError:
                assert self.process.poll() is None and time.monotonic() - began < 60, "gi app did not answer"
                time.sleep(0.05)
        self.seconds = time.monotonic() - began  # until the first page

    def get(self, path: str):
        with urllib.request.urlopen(self.address + path) as answer:
            return json.load(answer)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    runs = tmp_path_factory.mktemp("runs")
    _training_run(runs / "first")
    server = Server(folder, "--max-upload", "2M", "--runs", str(runs))
    yield server
    server.stop()


@pytest.fixture
def page(browser, server):
    """A tab in which nothing may go wrong unseen: scripts that fail, or are refused by the page's own policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, has_touch=True)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: "Security Policy" in message.text and problems.append(message.text))
    page.goto(server.address)
    yield page
    context.close()
    assert not problems


def _training_run(folder):
    from torch.utils.tensorboard import SummaryWriter
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for step in range(0, 100, 10):
            writer.add_scalar("train/l1", 1 / (1 + step), step)
    io.write_image(folder / "images" / "val" / "000100.png", np.full((20, 30, 3), 90, np.uint8))


def _open_example(page, *, masks=False):
    """Returns the project, by default without the masks that the example comes with."""
    page.get_by_role("button", name="Try the example").click()
    page.wait_for_url("**/#/video/*")
    page.get_by_role("button", name="Remove the object", disabled=False).wait_for()  # the second click
    if not masks:
        page.locator("summary", has_text="Follow it").click()
        page.get_by_role("button", name="Discard the masks").click()
        page.locator("summary", has_text="Mark the object").click()
    _until(page, "document.querySelector('canvas.before')?.getContext('2d').getImageData(240, 9, 1, 1).data[3]")
    return page.url.split("/video/")[1].partition("?")[0]


def _at(page, x, y, canvas="canvas.paint"):
    """Where the centre of the pixel (x, y) of the picture is on the screen; its corner may be rounded away."""
    box = page.locator(canvas).bounding_box()
    size = page.locator(canvas).evaluate("canvas => [canvas.width, canvas.height]")
    return box["x"] + (x + 0.5) * box["width"] / size[0], box["y"] + (y + 0.5) * box["height"] / size[1]


def _drag(page, points, canvas="canvas.paint"):
    page.mouse.move(*_at(page, *points[0], canvas))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*_at(page, *point, canvas), steps=5)
    page.mouse.up()


def _until(page, expression):
    """Waits for a condition in the page. (Playwright's own way evaluates strings, which the page's policy forbids.)"""
    wait_for(lambda: page.evaluate(expression))


def _drop(page, path):
    """Drops a file on the first screen."""
    files = page.evaluate_handle("""([bytes, name]) => {
      const files = new DataTransfer();
      files.items.add(new File([new Uint8Array(bytes)], name));
      return files;
    }""", [list(path.read_bytes()), path.name])
    page.dispatch_event("section.drop", "drop", {"dataTransfer": files})


def _picture(server, project, name):
    """A picture (H, W, 3) of a project."""
    with urllib.request.urlopen(f"{server.address}/api/projects/{project}/{name}.png") as answer:
        return cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy()


def _mask(server, project, name):
    return _picture(server, project, name)[..., 0] > 127


# Measures each stroke: from the event's own time to the end of the picture of the screen that shows its pixel.
LATENCY = """() => {
  window.latencies = [];
  window.addEventListener("pointermove", (event) => {
    if (!event.buttons || event.target.className !== "paint") return;
    const canvas = event.target, box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) * canvas.width / box.width;
    const y = (event.clientY - box.top) * canvas.height / box.height;
    requestAnimationFrame(() => {
      const painted = canvas.getContext("2d").getImageData(x, y, 1, 1).data[3] > 0;
      const channel = new MessageChannel();
      channel.port1.onmessage = () => window.latencies.push(painted ? performance.now() - event.timeStamp : Infinity);
      channel.port2.postMessage(0);
    });
  });
}"""


def test_what_is_painted_is_kept(page, server):
    project = _open_example(page)
    address = f"/api/projects/{project}"
    page.evaluate(LATENCY)
    page.keyboard.press("[")
    _drag(page, [(60, 150), (120, 150), (120, 90)])
    wait_for(lambda: server.get(address)["marks"] == [0])
    latencies = page.evaluate("latencies")
    assert len(latencies) >= 5 and np.median(latencies) < 50, latencies  # milliseconds
    mask = _mask(server, project, "marks/0")
    assert mask[150, 62:118].all() and mask[92:150, 120].all() and not mask[:70].any() and mask.mean() < 0.05
    mark = urllib.request.urlopen(f"{server.address}{address}/marks/0.png").read()

    def another_tab(method, shown):
        request = urllib.request.Request(f"{server.address}{address}/marks/7", mark, method=method)
        urllib.request.urlopen(request).close()
        page.get_by_text(shown).wait_for()
        page.wait_for_timeout(300)

    another_tab("PUT", "2 frames painted")
    another_tab("DELETE", "1 frame painted")
    page.keyboard.press("Control+z")  # can still be undone
    wait_for(lambda: server.get(address)["marks"] == [])
    another_tab("PUT", "1 frame painted")
    page.keyboard.press("Control+Shift+z")  # and redone
    wait_for(lambda: server.get(address)["marks"] == [0, 7])
    another_tab("DELETE", "1 frame painted")
    page.keyboard.press("r")
    _drag(page, [(200, 20), (300, 60)])
    page.keyboard.press("e")
    _drag(page, [(240, 40), (260, 40)])
    page.keyboard.press("ArrowRight")  # what is painted is kept when one leaves the frame
    wait_for(lambda: _mask(server, project, "marks/0")[22:26, 202:298].all())
    assert not _mask(server, project, "marks/0")[40, 240:260].any()
    page.keyboard.press("b")
    page.touchscreen.tap(*_at(page, 400, 200))
    wait_for(lambda: server.get(address)["marks"] == [0, 1])
    assert _mask(server, project, "marks/1")[200, 400]
    page.reload()  # on frame 1, as before
    _until(page, "document.querySelector('canvas.paint')?.getContext('2d').getImageData(400, 200, 1, 1).data[3]")
    page.get_by_role("button", name="Delete the mark of frame 1").click()
    wait_for(lambda: server.get(address)["marks"] == [0])


def test_keys_move_through_the_video(page):
    _open_example(page)
    number = page.get_by_label("Number of the frame")
    for key, frame in ("ArrowRight", 1), ("Shift+ArrowRight", 11), ("ArrowLeft", 10), ("End", 39), ("Home", 0):
        page.keyboard.press(key)
        assert number.input_value() == str(frame)
    page.keyboard.press("Space")
    _until(page, "document.querySelector('.scrub').value >= 12")
    page.keyboard.press("Space")
    stopped = number.input_value()
    page.wait_for_timeout(200)
    assert number.input_value() == stopped
    page.mouse.move(*_at(page, 100, 100))
    page.mouse.down()
    page.keyboard.press("ArrowLeft")  # a stroke belongs to its frame
    assert number.input_value() == stopped
    page.mouse.up()
    page.keyboard.press("?")
    assert page.get_by_role("dialog").get_by_text("play or stop").is_visible()


def test_a_short_video_of_a_phone_is_upright(page, tmp_path):
    pictures = moving_pictures(6, 64, 48)  # upright
    write_video(tmp_path / "phone.mp4", np.rot90(pictures, axes=(1, 2)), rate="30000/1001", sound="aac")
    set_turn(tmp_path / "phone.mp4", "clockwise")
    failed = []
    page.on("response", lambda response: response.ok or failed.append(response.url))
    _drop(page, tmp_path / "phone.mp4")
    page.get_by_text("48×64 · 6 frames").wait_for()
    page.get_by_text("29.97 frames a second · with sound").wait_for()
    for key in "End", "ArrowLeft", "ArrowLeft", "Home":  # frames ahead of the way back are asked for
        page.keyboard.press(key)
    corner = "[...document.querySelector('canvas.before').getContext('2d').getImageData(3, 3, 1, 1).data]"
    wait_for(lambda: np.abs(np.subtract(page.evaluate(corner)[:3], pictures[0][3, 3])).max() < 12)
    assert not failed


def test_pictures_and_their_masks_are_loaded(page, server, tmp_path):
    files = {"frames": [], "masks": []}
    for number, picture in enumerate(moving_pictures(3)):
        for kind, pixels in ("frames", picture), ("masks", np.full(picture.shape[:2], 255, np.uint8)):
            files[kind].append(tmp_path / kind / f"{number}.png")
            io.write_image(files[kind][-1], pixels)
    page.set_input_files("input[aria-label='Open a video']", files["frames"])
    page.get_by_label("Pictures a second").fill("12")
    page.get_by_role("button", name="Open", exact=True).click()
    page.get_by_text("64×48 · 3 frames").wait_for()
    page.set_input_files("input[aria-label='Load masks']", files["masks"][:2])
    page.get_by_role("alert").filter(has_text="2 masks, expected 3").wait_for()
    page.set_input_files("input[aria-label='Load masks']", files["masks"])
    shown = "document.querySelector('canvas.mask').getContext('2d').getImageData(30, 30, 1, 1).data[3]"
    _until(page, shown)
    page.locator("summary", has_text="Mark the object").click()
    page.get_by_role("button", name="Not on this frame").click()
    _until(page, f"!{shown}")  # the mask goes that it replaces
    painted = shown.replace("canvas.mask", "canvas.paint")
    page.keyboard.press("Control+z")
    _until(page, painted)  # as paint
    page.get_by_role("button", name="Delete the mark of frame 0").click()
    _until(page, f"{shown} && !{painted}")


def test_an_object_vanishes(page, server, tmp_path):
    project = _open_example(page)
    from gi.app.example import FRAMES, frames
    truth = [mask > 0 for _, mask in frames()]
    centre = np.argwhere(truth[0]).mean(0)[::-1]
    for _ in range(2):  # a brush of 34 pixels, for a ball of 64
        page.keyboard.press("]")
    angles = np.linspace(0, 2 * np.pi, 13)
    _drag(page, [tuple(centre + 16 * np.array([np.cos(a), np.sin(a)])) for a in angles] + [tuple(centre + (0, 36))])
    page.get_by_role("button", name="Follow it through the video").click()
    wait_for(lambda: server.get(f"/api/projects/{project}")["masks"], seconds=180)
    middle = _mask(server, project, f"masks/{FRAMES // 2}")
    assert (middle & truth[FRAMES // 2]).sum() > 0.5 * (middle | truth[FRAMES // 2]).sum()

    page.locator("summary", has_text="Remove it").click()
    page.get_by_role("button", name="Remove the object").click()
    page.get_by_role("button", name="Stop", exact=True).first.click()
    page.get_by_role("button", name="Resume").first.wait_for()
    assert page.locator("progress:visible:not([value])").count() == 0  # nothing seems to go on
    job = server.get("/api/jobs")[0]
    assert (job["kind"], job["state"]) == ("run", "cancelled")
    page.get_by_role("button", name="Resume").first.click()
    page.reload()  # while it computes
    other = page.context.new_page()  # a second tab of the same
    other.goto(page.url)
    for tab in page, other:
        tab.get_by_role("link", name="Download the video").wait_for(timeout=180_000)
        tab.get_by_role("radio", name="Result").click()
        _until(tab, "document.querySelector('canvas.after').getContext('2d').getImageData(240, 9, 1, 1).data[3]")
    with other.expect_download() as download:
        other.get_by_role("link", name="Download the video").click()
    download.value.save_as(tmp_path / "page.mp4")

    # The command that the page shows, with another name for its result.
    command = shlex.split(server.get(f"/api/jobs/{job['id']}")["command"])
    line = [sys.executable, "-m", *(tmp_path / "line.mp4" if word.endswith("filled.mp4") else word for word in command)]
    alike = {**os.environ, "OMP_NUM_THREADS": "1"}  # as the server: the number of threads decides how sums are rounded
    subprocess.run([*line, "--preview", tmp_path / "line"], check=True, capture_output=True, env=alike)
    kept = server.folder / "gi-app" / "jobs" / job["id"] / "preview"
    assert {file.name: file.read_bytes() for file in kept.glob("[0-9]*.jpg")} == \
        {file.name: file.read_bytes() for file in (tmp_path / "line").iterdir() if file.name != ".gi-preview"}
    source = server.folder / "gi-app" / "example" / "example.mp4"
    results = [list(open_video(tmp_path / name).frames()) for name in ("page.mp4", "line.mp4")]
    assert len(results[0]) == FRAMES
    # What is filled is the same, bit for bit; x264 does not encode the same pictures to the same bits every time.
    assert np.abs(np.subtract(*results, dtype=int)).mean() < 1
    before = list(open_video(source).frames())
    where = truth[20] & np.all(np.abs(before[20].astype(int) - (245, 245, 240)) < 40, axis=-1)  # the ball's white
    assert np.abs(results[0][20].astype(int) - before[20])[where].mean() > 40

    page.get_by_role("radio", name="Slice").click()
    page.mouse.click(*_at(page, 100, 100, "canvas.before"))
    page.get_by_text("After, column 100").wait_for()
    _until(page, "[...document.querySelectorAll('.slice img')].every(image => image.naturalWidth > 0)")


def test_a_keyframe_is_painted(page, server):
    project = _open_example(page)
    page.keyboard.press("Shift+ArrowRight")
    page.locator("summary", has_text="Keyframes").click()
    page.get_by_role("button", name="Paint over this frame").click()
    page.get_by_label("Colour", exact=True).fill("#12cd34")
    page.keyboard.press("r")
    _drag(page, [(100, 50), (140, 90)], "canvas.colour")
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="Delete keyframe 10").wait_for()
    kept, frame = (_picture(server, project, f"{kind}/10") for kind in ("keyframes", "frames"))
    assert (kept[52:88, 102:138] == (0x12, 0xcd, 0x34)).all()
    frame[49:92, 99:142] = kept[49:92, 99:142]
    np.testing.assert_array_equal(kept, frame)  # elsewhere it is the frame, bit for bit
    page.get_by_role("button", name="Paint over keyframe 10").click()
    shown = "[...document.querySelector('canvas.before').getContext('2d').getImageData(120, 70, 1, 1).data]"
    wait_for(lambda: page.evaluate(shown)[:3] == [0x12, 0xcd, 0x34])
    address = f"{server.address}/api/projects/{project}/marks/7"
    urllib.request.urlopen(urllib.request.Request(address, method="DELETE")).close()  # the page is told of it
    page.wait_for_timeout(300)
    assert page.evaluate(shown)[:3] == [0x12, 0xcd, 0x34]  # and still shows the keyframe


def test_a_photo_is_filled(page, server, tmp_path):
    picture = np.full((96, 144, 3), (40, 120, 200), np.uint8)
    io.write_image(tmp_path / "other.png", picture)
    picture[40:60, 60:90] = (250, 10, 10)
    io.write_image(tmp_path / "photo.png", picture)
    page.get_by_role("link", name="Photos").click()
    page.get_by_text("No photos yet").wait_for()
    _drop(page, tmp_path / "photo.png")
    page.wait_for_url("**/#/photo/*")
    page.locator("canvas.paint").wait_for()
    page.keyboard.press("r")
    _drag(page, [(54, 34), (96, 66)])
    page.set_input_files("input[aria-label='Add photos']", tmp_path / "other.png")
    page.get_by_text("Guided by 1 other view").wait_for()
    page.reload()
    _until(page, "document.querySelector('.thumbnail img')?.naturalWidth === 168")
    page.get_by_role("button", name="Remove it").click()
    link = page.get_by_role("link", name="Download the photo")
    link.wait_for(timeout=120_000)
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "filled.png")
    filled = io.read_image(tmp_path / "filled.png")
    assert np.abs(filled[42:58, 62:88].astype(int) - (250, 10, 10)).mean() > 50
    np.testing.assert_array_equal(filled[:30], picture[:30])


def test_files_that_cannot_be_opened(page, tmp_path):
    wrong = tmp_path / "<img src=x onerror=document.title='broken'>.mp4"
    wrong.write_text("<script>document.title = 'broken'</script>")
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(3 * 2**20))
    too_large = "large.mp4 has 3.0 MB; this server takes up to 2.0 MB"
    for path, said in (wrong, "is no video or picture"), (large, too_large):
        page.set_input_files("input[aria-label='Open a video']", path)
        page.get_by_role("alert").filter(has_text=said).wait_for()
    assert page.locator("#notes img").count() == 0 and page.title() == "gi"
    for place in "video/nothing", "%E0%A4%A":
        page.goto(page.url.partition("#")[0] + f"#/{place}")
        page.get_by_text("no such project" if "video" in place else "no such page").wait_for()


def test_runs_are_shown(page):
    page.get_by_role("link", name="Runs").click()
    curve = page.locator("polyline.curve")
    curve.wait_for()
    assert len(curve.get_attribute("points").split()) == 10
    _until(page, "document.querySelector('.grid-image').naturalWidth === 30")
    assert page.get_by_text("No report yet").is_visible()


def test_a_shared_machine_asks_for_a_password(browser, tmp_path):
    server = Server(tmp_path, "--password", "tell nobody")
    try:
        page = browser.new_page()
        page.goto(server.address)
        for word, shown in ("wrong", page.get_by_role("alert")), ("tell nobody", page.get_by_text("Try the example")):
            page.get_by_label("Password").fill(word)
            page.get_by_role("button", name="Log in").click()
            shown.filter(has_text=" ").wait_for()
        page.close()
    finally:
        server.stop()
