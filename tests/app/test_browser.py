"""The page in a real browser: Debian's Chromium, headless, steered by Playwright."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from gi.media import io
from gi.media.files import open_video

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
