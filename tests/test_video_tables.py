"""What headers of mp4 and mov files may claim; the files are made of the boxes of ISO/IEC 14496-12 by hand."""
import os
import struct
import zlib

import numpy as np
import pytest

from gi.errors import InputError
from gi.media.files import open_video
from gi.media.sample_tables import check_tables
from tests.video_helpers import write_video

MANY = 2**23


def box(kind, *content):
    content = b"".join(content)
    return struct.pack(">I4s", 8 + len(content), kind.encode()) + content


def table(kind, *numbers):
    return box(kind, struct.pack(f">{len(numbers) + 1}I", 0, *numbers))


def track(*tables, handler="vide", edits=()):
    about = box("hdlr", bytes(8), handler.encode(), bytes(12))
    return box("trak", box("edts", *edits), box("mdia", about, box("minf", box("stbl", *tables))))


def movie(*tracks):
    return box("ftyp", b"qt  ", bytes(4)) + box("moov", *tracks)


def compressed(header):
    return box("moov", box("cmov", box("dcom", b"zlib"),
                           box("cmvd", struct.pack(">I", len(header)), zlib.compress(header))))


SAMPLES = table("stsz", 12, MANY), table("stts", 1, MANY, 512)
CLAIMS = {
    "samples": movie(track(*SAMPLES)),
    "samples of sound with times": movie(track(*SAMPLES, handler="soun")),
    "two tracks": movie(*[track(table("stsz", 1, MANY // 2 + 1))] * 2),
    "edits": movie(track(table("stsz", 12, MANY // 64), edits=[table("elst", 65, *[0] * 195)])),
    "a fragment": movie(track()) + box("moof", box("traf", table("trun", MANY))),
    "compressed": compressed(movie(track(*SAMPLES))),
    "a compressed header": box("moov", box("cmov", box("cmvd", b"\xff" * 4))),
    "a large box": struct.pack(">I4sQ", 1, b"moov", 16 + len(track(*SAMPLES))) + track(*SAMPLES),
    "chunks of sound": movie(track(table("stsz", 1, 9), table("stts", 1, 9, 1), table("stsc", 1, 1, 2**31, 1),
                                   table("stco", 9, *[0] * 9), handler="soun")),
    "tables in metadata": movie(box("meta", bytes(4), box("hdlr", bytes(20)), *SAMPLES), track()),
    "tables in metadata of QuickTime": movie(track(box("udta", box("meta", *SAMPLES)))),
    "tables in a format": movie(track(box("stsd", bytes(8), box("mp4v", bytes(78), *SAMPLES)))),
    "chunks": movie(track(table("stco", 2**20))), "times": movie(track(table("stts", 2**20, 1, 1))),
}
HARMLESS = {
    "nothing": b"", "text": b"only text", "cut off": movie(track(*SAMPLES))[:60], "nested": box("moov") * 99,
    "sound": movie(track(table("stsz", 1, MANY), table("stts", 1, MANY, 1), table("stsc", 1, 1, 1024, 1),
                         table("stco", 9, *[0] * 9), handler="soun")),
    "cut off in a table": movie(track(table("stsc", 9, 1)))[:-1],
    "in samples": movie() + box("mdat", track(*SAMPLES)), "no table": movie(track(box("stsz"))),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_that_a_file_has_no_bytes_for(tmp_path, name):
    path = tmp_path / "a.mov"
    path.write_bytes(CLAIMS[name])
    with pytest.raises(InputError, match=r"a\.mov: .* claims? \d+ .*bytes cannot hold"):
        check_tables(path)
    with pytest.raises(InputError, match="cannot hold"):
        open_video(path)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_let_through(tmp_path, name):
    (tmp_path / "a.mov").write_bytes(HARMLESS[name])
    check_tables(tmp_path / "a.mov")


def test_as_many_samples_as_bytes(tmp_path):
    (tmp_path / "a.mov").write_bytes(CLAIMS["samples"])
    os.truncate(tmp_path / "a.mov", MANY)
    check_tables(tmp_path / "a.mov")


def test_a_film_that_claims_more(tmp_path):
    path = tmp_path / "a.mov"
    write_video(path, np.zeros((3, 2, 2, 3), np.uint8), codec="rawvideo", form="rgb24")
    assert open_video(path).count == 3
    data = bytearray(path.read_bytes())
    for kind, place in ("stsz", 12), ("stts", 12), ("stsc", 16):
        struct.pack_into(">I", data, data.index(kind.encode()) + place, MANY)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.mov: .*8388608 samples"):
        open_video(path)
