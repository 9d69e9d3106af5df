import dataclasses
import hashlib
import http.server
import re
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

from gi.commands.weights import FILES, file_named
from gi.errors import InputError
from gi.flow.estimate import RAFT_THINGS
from gi.losses.perceptual import ADE20K_ENCODER
from gi.metrics.features import ALEXNET, INCEPTION, VGG16
from gi.weights import fetch as fetching
from gi.weights.fetch import FetchError, RequiredFile, fetch, required_by_config


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, {path: bytes}, with ranges; keeps a log of (path, first byte asked for)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.log = {}, []
        self.ranges = True
        self.cut = []  # lengths after which the next answers break off
        self.fail = []  # status codes of the next answers

    def handle_error(self, request, client_address):
        pass

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.server.log.append((self.path, start))
        data = self.server.files.get(self.path)
        if self.server.fail:
            return self.send_error(self.server.fail.pop(0))
        if data is None:
            return self.send_error(404)
        if not self.server.ranges:
            start = 0
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        length = self.server.cut.pop(0) if self.server.cut else len(data)
        self.wfile.write(data[start : start + length])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A file with weights, of some size."""
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save({"a": torch.arange(200_000.0)}, path)
    return path.read_bytes()


@pytest.fixture
def item(server, data, monkeypatch):
    """vgg16, on our server, with the digest of `data`."""
    digest = hashlib.sha256(data).hexdigest()
    server.files["/models/vgg16-397923af.pth"] = data
    for name, given in ("vgg16", digest), ("ade20k", None), ("raft", digest[:8]):
        url = f"{server.address}/models/{FILES[name].url.rpartition('/')[2]}"
        monkeypatch.setitem(FILES, name, dataclasses.replace(FILES[name], url=url, sha256=given))
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nonexistent")
    return file_named("vgg16")


def parts(root):
    return [path.name for path in Path(root).rglob("*") if path.is_file()]


def test_downloads_once(server, data, item, tmp_path):
    seen = []
    done = fetch(item, tmp_path, progress=lambda *state: seen.append(state))
    assert (tmp_path / VGG16.path).read_bytes() == data and parts(tmp_path) == ["vgg16-397923af.pth"]
    assert done.startswith("fetched from http://127.0.0.1") and item.sha256 in done
    assert seen[-1] == (len(data), len(data))
    assert fetch(item, tmp_path).startswith("there already") and len(server.log) == 1


def test_resumes_what_an_earlier_call_left(server, data, item, tmp_path):
    part = tmp_path / (VGG16.path + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(data[:300_000])
    fetch(item, tmp_path)
    assert server.log == [("/models/vgg16-397923af.pth", 300_000)]
    assert (tmp_path / VGG16.path).read_bytes() == data and not part.exists()


def test_resumes_by_itself_when_the_connection_breaks(server, data, item, tmp_path):
    server.cut = [100_000, 200_000]
    fetch(item, tmp_path)
    assert [start for _, start in server.log] == [0, 100_000, 300_000]
    assert (tmp_path / VGG16.path).read_bytes() == data


def test_a_busy_server_is_asked_again_and_the_part_stays_if_that_does_not_help(server, data, item, tmp_path):
    server.fail = [503, 500]
    fetch(item, tmp_path)
    (tmp_path / VGG16.path).unlink()
    server.log.clear()
    server.cut = [100_000, 0, 0, 0, 0]
    with pytest.raises(FetchError, match="the connection ended after 100000 of .*run this again to go on"):
        fetch(item, tmp_path)
    assert parts(tmp_path) == ["vgg16-397923af.pth.part"] and len(server.log) == fetching.ATTEMPTS
    server.cut = []
    fetch(item, tmp_path)
    assert server.log[-1][1] == 100_000 and (tmp_path / VGG16.path).read_bytes() == data


def test_a_part_that_is_too_long_after_other_failures_is_no_missing_file(server, data, item, tmp_path):
    part = tmp_path / (VGG16.path + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(data + b"more")
    server.fail = [503] * (fetching.ATTEMPTS - 1)
    with pytest.raises(FetchError, match="416"):
        fetch(item, tmp_path)
    assert not part.exists()
    fetch(item, tmp_path)
    assert (tmp_path / VGG16.path).read_bytes() == data


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("left", ["beginning", "of another file", "complete", "longer"])
def test_whatever_the_part_holds_the_file_is_right(server, data, item, tmp_path, left, ranges):
    server.ranges = ranges
    part = tmp_path / (VGG16.path + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes({"beginning": data[:1000], "of another file": b"x" * 5000, "complete": data,
                      "longer": data + b"more"}[left])
    fetch(item, tmp_path)
    assert (tmp_path / VGG16.path).read_bytes() == data and parts(tmp_path) == ["vgg16-397923af.pth"]
    if left in ("beginning", "complete"):
        assert len(server.log) == 1  # not by downloading it again


def test_another_digest_is_refused(server, data, item, tmp_path):
    server.files["/models/vgg16-397923af.pth"] = data[:-1] + b"!"
    with pytest.raises(FetchError, match=f"its SHA-256 is [0-9a-f]+, expected {item.sha256}"):
        fetch(item, tmp_path)
    assert parts(tmp_path) == []
    place = tmp_path / VGG16.path
    place.write_bytes(b"my own")
    with pytest.raises(FetchError, match="move it away"):
        fetch(item, tmp_path)
    assert place.read_bytes() == b"my own"


def test_without_a_known_digest_it_must_be_weights(server, data, item, tmp_path):
    url = FILES["ade20k"].url.removeprefix(server.address)
    server.files[url] = b"<html>Please log in to this network</html>"
    with pytest.raises(FetchError, match="this is no file with weights"):
        fetch(file_named("ade20k"), tmp_path)
    assert parts(tmp_path) == []
    server.files[url] = data
    assert "its project publishes none" in fetch(file_named("ade20k"), tmp_path)
    assert (tmp_path / ADE20K_ENCODER.path).read_bytes() == data


def test_mirrors(server, data, item, tmp_path):
    server.files = {"/pub/checkpoints/metrics/vgg16-397923af.pth": data}
    done = fetch(item, tmp_path / "a", mirror=server.address + "/pub/")
    assert "/pub/checkpoints/metrics/vgg16-397923af.pth" in done
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FetchError, match="not there; name another --mirror, or put the file at"):
        fetch(item, tmp_path / "b", mirror=str(folder))
    (folder / "vgg16-397923af.pth").write_bytes(b"wrong")
    with pytest.raises(FetchError, match="its SHA-256 is"):
        fetch(item, tmp_path / "b", mirror=str(folder))
    (folder / "vgg16-397923af.pth").write_bytes(data)
    fetch(item, tmp_path / "b", mirror=str(folder))
    assert (tmp_path / "b" / VGG16.path).read_bytes() == data
    fetch(item, tmp_path / "c", mirror=str(tmp_path / "b"))  # somebody else's checkout
    assert (tmp_path / "c" / VGG16.path).read_bytes() == data
    with pytest.raises(FetchError, match="not there"):
        fetch(item, tmp_path / "d", mirror=server.address)
    for mirror in "ftp://127.0.0.1", str(tmp_path / "nowhere"):
        with pytest.raises(InputError, match="expected an address starting with http"):
            fetch(item, tmp_path / "d", mirror=mirror)


def test_raft_may_be_the_original_file(server, data, item, tmp_path):
    (tmp_path / "mirror").mkdir()
    torch.save({"module.a": torch.ones(2)}, tmp_path / "mirror" / "raft-things.pth")
    done = fetch(file_named("raft"), tmp_path, mirror=str(tmp_path / "mirror"))
    assert "raft-things.pth" in done and fetch(file_named("raft"), tmp_path).startswith("there already")
    (tmp_path / "mirror" / "raft_large_C_T_V1-22a6c225.pth").write_bytes(b"wrong")
    with pytest.raises(FetchError, match="its SHA-256"):
        fetch(file_named("raft"), tmp_path / "other", mirror=str(tmp_path / "mirror"))


def test_offline(server, item, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        address = f"http://127.0.0.1:{closed.server_port}"
    with pytest.raises(FetchError, match="cannot be reached") as caught:
        fetch(item, tmp_path, mirror=address)
    assert "\n" not in str(caught.value) and str(tmp_path / VGG16.path) in str(caught.value)


def test_too_large(server, item, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_BYTES", 1000)
    with pytest.raises(FetchError, match="more than 1000 bytes"):
        fetch(item, tmp_path)


def test_cache_of_torch_hub_counts(item, data, tmp_path, monkeypatch, server):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "vgg16-397923af.pth").write_bytes(data)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert "torch.hub's cache" in fetch(item, tmp_path / "root") and not server.log


def test_what_configs_need(root, tmp_path):
    def names(config):
        return {item.file.name: item.path for item in required_by_config(root / "configs" / config)}

    everything = {"raft": RAFT_THINGS.path, "ade20k": ADE20K_ENCODER.path, "inception": INCEPTION.path,
                  "vgg16": VGG16.path}
    assert names("ours.yaml") == everything and names("demo.yaml") == {}
    assert set(names("lama.yaml")) == set(everything) - {"raft"}
    own = tmp_path / "own.yaml"
    own.write_text("""
model:
  params:
    estimator: {target: gi.flow.estimate.RAFT, params: {weights: my/raft.pth, sha256: 0123456789abcdef}}
    perceptual: {target: gi.losses.perceptual.PerceptualLoss, params: {weights: null}}
    metrics:
      target: gi.metrics.image.ImageMetrics
      params:
        metrics: [fid, lpips]
        inception: {target: gi.metrics.features.InceptionFeatures}
        lpips: {target: gi.metrics.features.LPIPS, params: {net: alex}}
""")
    assert required_by_config(own) == [
        RequiredFile(RAFT_THINGS, "my/raft.pth", "0123456789abcdef"),
        RequiredFile.at_default(INCEPTION), RequiredFile.at_default(ALEXNET)]
    own.write_text("{model: {target: gi.flow.estimate.RAFT, params: {sha256: xyz}}}")
    with pytest.raises(InputError, match="expected 8 to 64 hexadecimal digits, got 'xyz'"):
        required_by_config(own)
    with pytest.raises(InputError, match="no such configuration"):
        required_by_config(tmp_path / "nothing.yaml")


def test_addresses_are_of_the_projects():
    hosts = {name: download.url.split("/")[2] for name, download in FILES.items()}
    assert hosts == {"raft": "download.pytorch.org", "vgg16": "download.pytorch.org", "inception": "github.com",
                     "alexnet": "download.pytorch.org", "ade20k": "sceneparsing.csail.mit.edu", "i3d": "github.com",
                     "vgg19": "download.pytorch.org"}
    for name, download in FILES.items():  # torchvision puts the first digits into the name
        in_name = re.search(r"-([0-9a-f]{8})\.pth$", download.url)
        assert name in ("ade20k", "i3d") or download.sha256.startswith(in_name[1])


def test_command_line(server, data, item, tmp_path, root, run_script):
    run = run_script("fetch_weights")
    status, printed = run("vgg16", "--to", tmp_path)
    assert status == 0 and printed.out.startswith("vgg16: checkpoints/metrics/vgg16-397923af.pth: fetched from")
    status, printed = run("vgg16", "ade20k", "--to", tmp_path)
    assert status == 1 and "there already" in printed.out and "1 of 2 files could not be fetched" in printed.err
    status, printed = run("--config", root / "configs" / "demo.yaml")
    assert status == 0 and "needs no weights" in printed.out
    status, printed = run("vgg13")
    assert status == 2 and printed.err.startswith("error: vgg13: no such file, expected raft")


def test_no_redirect_from_an_encrypted_address_to_a_plain_one():
    redirects, request = fetching._Redirects(), urllib.request.Request("https://example.org/a.pth")
    assert redirects.redirect_request(request, None, 302, "", {}, "https://other.org/a.pth").host == "other.org"
    for address in "http://other.org/a.pth", "ftp://other.org/a.pth":
        with pytest.raises(urllib.error.URLError, match="not encrypted"):
            redirects.redirect_request(request, None, 302, "", {}, address)


def test_every_file_says_where_it_belongs_and_what_its_licence_is(root):
    table = (root / "checkpoints" / "README.md").read_text(encoding="utf-8")
    for file in FILES.values():
        assert file.licence and Path(file.path).name.removesuffix(".pth") in table
