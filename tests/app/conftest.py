import argparse
import contextlib
import io
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

try:
    import uvicorn  # noqa: F401
    from starlette import testclient
except ImportError:  # without the extra `app`
    collect_ignore_glob = ["test_*.py"]

HOST = "http://127.0.0.1"


@pytest.fixture(autouse=True, scope="session")
def key_of_seals(tmp_path_factory):
    """Elsewhere than the user's own; for servers in other processes, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def arguments(tmp_path):
    return arguments_in(tmp_path)


@pytest.fixture
def server(arguments):
    with serving(arguments) as server:
        yield server


def arguments_in(folder):
    """Those of `gi app`, for a working folder in `folder`."""
    return argparse.Namespace(folder=folder / "work", host="127.0.0.1", port=7860, password=None, allow_host=[],
                              max_upload=2**22, runs=folder / "runs", diffusion=None, sam2=None, no_browser=True)


@contextlib.contextmanager
def serving(arguments):
    """A server in this process: `client` sends requests, `queue` and `projects` are its parts."""
    from gi.app.server import create_app
    app = create_app(arguments, make_example=False)
    with testclient.TestClient(app, base_url=HOST) as client:
        yield SimpleNamespace(client=client, **vars(app.state.parts),
                              ok=lambda *words, **options: answer(client.request(*words, **options)))


def answer(response):
    """The JSON of an answer that has to be 200."""
    assert response.status_code == 200, response.text
    return response.json()


def png(pixels) -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, format="PNG")
    return file.getvalue()


def wait_for(condition, seconds=60):
    """What `condition` gives once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came true")


def fake_job(server, **script):
    """A job of tests/app/fake.py, which does what `script` says."""
    from gi.app.job import Job
    folder = server.queue.new_folder()
    words = [json.dumps({"out": str(folder / "result.txt"), **script})]
    return server.queue.add(Job(id=folder.name, kind="fake", method="fake", project=None, words=words,
                                result="result.txt", module="tests.app.fake", about={"amount": 1.0}))
