import errno
import io as bytes_io
import os
import struct
import threading
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gi.errors import InputError
from gi.media import io, jpeg_scans, mask_values


@pytest.fixture
def photograph():
    return np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)


def test_round_trip(tmp_path, photograph):
    for image in (photograph, photograph[..., 0]):
        io.write_image(tmp_path / "new" / "a.png", image)
        expected = np.broadcast_to(image.reshape(12, 20, -1), (12, 20, 3))
        np.testing.assert_array_equal(io.read_image(tmp_path / "new" / "a.png"), expected)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_write_refuses_floats(tmp_path, photograph):
    with pytest.raises(InputError, match="float64"):
        io.write_image(tmp_path / "a.png", photograph / 255)
    assert not list(tmp_path.iterdir())


def test_modes(tmp_path, photograph):
    grey = photograph[..., 0]
    rgba = np.dstack([photograph, np.zeros_like(grey)])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(io.read_image(tmp_path / "rgba.png"), photograph)  # dropped, not composited
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    np.testing.assert_array_equal(io.read_image(tmp_path / "grey16.png")[..., 1], grey)
    palette = Image.fromarray(photograph).quantize(16)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(io.read_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")))
    palette.save(tmp_path / "transparent.png", transparency=3)
    np.testing.assert_array_equal(io.read_image(tmp_path / "transparent.png"), np.asarray(palette.convert("RGB")))
    Image.fromarray(photograph).convert("CMYK").save(tmp_path / "cmyk.tif")
    np.testing.assert_array_equal(io.read_image(tmp_path / "cmyk.tif"), photograph)


def test_16_bits_are_rounded_in_little_memory(tmp_path):
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(levels).save(tmp_path / "all.png")
    np.testing.assert_array_equal(io.read_image(tmp_path / "all.png")[..., 2], np.round(levels / 257))
    Image.fromarray(np.tile(levels, (2, 2))).save(tmp_path / "large.png")
    tracemalloc.start()
    io.read_image(tmp_path / "large.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 512 * 512  # bytes


def test_exif_orientation(tmp_path, photograph):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: to be turned by 90 degrees clockwise
    Image.fromarray(photograph).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(io.read_image(tmp_path / "turned.png"), np.rot90(photograph, -1))


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "exif.png", "xmp.png", "raw.png"])
def test_size_of_turned_pictures(tmp_path, photograph, name):
    """As the picture has it when it is read, wherever it says how to turn it."""
    exif, texts = Image.Exif(), PngInfo()
    exif[0x0112] = 6
    if name == "xmp.png":
        texts.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
    elif name == "raw.png":
        content = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
        texts.add_text("Raw profile type exif", f"\nexif\n{len(content):8d}\n{content.hex()}\n", zip=True)
    told = {} if name in ("xmp.png", "raw.png") else {"exif": exif}
    Image.fromarray(photograph).save(tmp_path / name, **({"pnginfo": texts} if name.endswith("png") else {}), **told)
    assert io.read_size(tmp_path / name) == io.read_image(tmp_path / name).shape[1::-1] == (12, 20)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_one_value_or_colour_that_is_transparent(tmp_path, photograph, mode):
    """As programs that make PNG files smaller write RGBA: kept in pictures, and not painted in masks."""
    image = Image.fromarray(photograph).quantize(4) if mode == "P" else Image.fromarray(photograph).convert(mode)
    image.save(tmp_path / "a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    truth = np.asarray(Image.open(tmp_path / "a.png").convert("RGBA"))
    pixels = io.inspect_image(tmp_path / "a.png", lambda image: io.native_pixels(image, "a"))
    np.testing.assert_array_equal(pixels, truth)
    painted = np.full((12, 20), 255, np.uint8)
    painted[:, 5:] = 0  # black, and not to be seen
    Image.fromarray(painted).convert("L" if mode == "P" else mode).save(
        tmp_path / "mask.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    np.testing.assert_array_equal(io.read_mask(tmp_path / "mask.png"), painted // 255)


def test_mask_threshold(tmp_path):
    levels = np.array([[0, 1, 127, 128, 254, 255]], np.uint8)
    expected = [[0, 0, 0, 1, 1, 1]]
    io.write_image(tmp_path / "grey.png", levels)
    io.write_image(tmp_path / "rgb.png", np.repeat(levels[..., None], 3, axis=2))
    Image.fromarray(np.array([[0, 300, 32767, 32768, 65000, 65535]], np.uint16)).save(tmp_path / "16.png")
    for name in ("grey", "rgb", "16"):
        mask = io.read_mask(tmp_path / f"{name}.png")
        assert mask.dtype == np.uint8 and mask.tolist() == expected
    Image.fromarray(np.array(expected, bool)).save(tmp_path / "bits.png")
    assert io.read_mask(tmp_path / "bits.png").tolist() == expected


def test_values_of_a_mask_are_counted_in_little_memory():
    levels = mask_values.Levels(np.arange(2048, dtype=np.uint16).repeat(2 * 1024).reshape(2048, 2048) // 16)
    tracemalloc.start()
    mask_values.MaskRule().look(levels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2048 * 2048  # bytes


def bomb(width, height, depth=8):
    """A PNG of a few bytes whose header promises a huge image of `depth` bits a channel."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20000, 20000), (60000, 60000)])  # below and above twice the limit
def test_bomb_is_refused_before_decoding(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    with pytest.raises(InputError, match=r"bomb\.png.*pixels"):
        io.read_image(tmp_path / "bomb.png")


def test_pixel_limit(tmp_path, photograph, monkeypatch):
    io.write_image(tmp_path / "a.png", photograph)
    monkeypatch.setattr(io, "MAX_PIXELS", 240)
    io.read_image(tmp_path / "a.png")
    monkeypatch.setattr(io, "MAX_PIXELS", 239)
    with pytest.raises(InputError, match="20x12.*239"):
        io.read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["progressive", "one channel after another"])
def test_jpegs_of_very_many_scans(tmp_path, photograph, kind):
    """Of each scan, the decoder goes through all of the picture, whatever little there is of it."""
    buffer = bytes_io.BytesIO()
    Image.fromarray(photograph).save(buffer, format="JPEG", progressive=kind == "progressive")
    data = buffer.getvalue()[:-2]
    last = data.rindex(b"\xff\xda")
    scan = data[last:] if kind == "progressive" else b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
    data = data if kind == "progressive" else data[:last]
    there = data.count(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data + scan * (jpeg_scans.MOST - there) + b"\xff\xd9" + scan * 9)
    assert io.read_image(tmp_path / "a.jpg").shape == photograph.shape
    (tmp_path / "a.jpg").write_bytes(data + scan * (jpeg_scans.MOST - there + 1) + b"\xff\xd9")
    for read in io.read_image, io.read_size:
        with pytest.raises(InputError, match=r"a\.jpg: has more than 100 scans"):
            read(tmp_path / "a.jpg")


@pytest.mark.parametrize("progressive", [False, True])
def test_scans_are_told_from_bytes_that_look_like_them(tmp_path, photograph, progressive):
    exif, large = Image.Exif(), np.tile(photograph, (9, 9, 1))
    exif[0x9286] = b"\xff\xda\0\x08" * 999  # a comment
    Image.fromarray(large).save(tmp_path / "a.jpg", exif=exif, progressive=progressive, restart_marker_blocks=1)
    with open(tmp_path / "a.jpg", "ab") as file:
        file.write(b"\xff\xda\0\x08" * 999)  # such as a short film
    assert io.read_image(tmp_path / "a.jpg").shape == large.shape


def test_threads_that_read_at_once_leave_the_process_as_it_was(tmp_path, photograph):
    io.write_image(tmp_path / "a.png", photograph)
    before, inside, ended = (Image.MAX_IMAGE_PIXELS, list(warnings.filters)), threading.Event(), threading.Event()

    def second(image):
        inside.set()
        assert ended.wait(60) and Image.MAX_IMAGE_PIXELS == io.MAX_PIXELS

    with ThreadPoolExecutor(1) as pool:
        def first(image):  # begins before the other one, and ends before it
            later = pool.submit(io.inspect_image, tmp_path / "a.png", second)
            assert inside.wait(60)
            return later

        later = io.inspect_image(tmp_path / "a.png", first)
        ended.set()
        later.result()
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_bad_files_are_named(tmp_path, photograph):
    for format in ("PNG", "JPEG"):
        buffer = bytes_io.BytesIO()
        Image.fromarray(np.tile(photograph, (9, 9, 1))).save(buffer, format=format)
        (tmp_path / f"cut_{format}").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    for name in ("cut_PNG", "cut_JPEG", "text.png", "empty.png", "script.eps", "missing.png"):
        for read in (io.read_image, io.read_mask):
            with pytest.raises(InputError, match=name) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)


def test_atomic_write_keeps_the_old_file_on_error(tmp_path):
    target = tmp_path / "a.json"
    with io.atomic_write(target, durable=True) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".json"
        temporary.write_text("old")
    with pytest.raises(RuntimeError), io.atomic_write(target) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_written_is_named_as_the_user_knows_it(tmp_path):
    (tmp_path / "file.txt").touch()
    with pytest.raises(OSError) as caught, io.atomic_write(tmp_path / "file.txt" / "new.png"):
        pass
    assert caught.value.filename == str(tmp_path / "file.txt" / "new.png") and caught.value.strerror


def test_what_is_hardly_a_mask_is_asked_about(tmp_path, photograph):
    """A photograph in its place, and one that is inverted."""
    painted = np.zeros((12, 20), np.uint8)
    painted[2:4, 3:9] = 255
    for name, content in ("mask", painted), ("photograph", photograph), ("inverted", 255 - painted):
        io.write_image(tmp_path / f"{name}.png", content)
    remarks = [io.read_mask_with_remark(tmp_path / f"{name}.png")[1] for name in ("mask", "photograph", "inverted")]
    assert remarks[0] == "5.00 % missing" and remarks[1].endswith("is this a mask?")
    assert remarks[2] == "95 % missing; is it inverted? bright is what is missing"


@pytest.mark.parametrize("stem", ["a" * 251, "结" * 83 + "aa", "é" * 60, "a", "\udcff" * 251])  # 255 bytes, 124, 5, 255
@pytest.mark.parametrize("suffix", [".png", ".mp4", ""])
def test_names_as_long_as_file_systems_allow(tmp_path, stem, suffix):
    path = tmp_path / f"{stem}{suffix}"
    with io.atomic_write(path) as temporary:
        assert temporary.name[0] == "." and temporary.suffix == suffix or not suffix
        assert len(os.fsencode(temporary.name)) <= max(64, len(os.fsencode(path.name)))
        temporary.write_text("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == [path.name]
    other = io.hidden_name(path, ".0123456789abcdef.chunks")
    other.mkdir()
    assert other == io.hidden_name(path, ".0123456789abcdef.chunks")
    assert other != io.hidden_name(path.with_name(f"{stem[:-1]}b{suffix}"), ".0123456789abcdef.chunks")


def test_disks_that_refuse_modes(tmp_path, monkeypatch):
    """Such as memory cards of another owner."""
    def refuse(*words, **options):
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with io.atomic_write(tmp_path / "a.txt") as temporary:
        temporary.unlink()
        with open(temporary, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_list_images(tmp_path, photograph):
    for name in ("b/2.png", "b/1.png", "a.png"):
        io.write_image(tmp_path / name, photograph)
    for name in ("notes.txt", ".hidden.png"):
        (tmp_path / name).write_text("")
    (tmp_path / "c.JPG").write_text("")
    assert io.list_images(tmp_path) == ["a.png", "b/1.png", "b/2.png", "c.JPG"]
    known = {suffix for suffix, form in Image.registered_extensions().items() if form in io.FORMATS} - {".pfm"}
    assert known - set(io.SUFFIXES) <= {".mpo"} and ".jfif" in known  # .pfm: floating point numbers
    (tmp_path / "nothing").mkdir()
    for folder in ("nothing", "nowhere"):
        with pytest.raises(InputError, match=folder):
            io.list_images(tmp_path / folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_pipes_are_not_waited_for(tmp_path, photograph, monkeypatch):
    io.write_image(tmp_path / "a.png", photograph)
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("b.png")
    (tmp_path / "d.png").symlink_to("nothing.png")
    (tmp_path / "e.png").symlink_to("a.png")
    (tmp_path / "f.png").mkdir()
    for number in range(20):  # whatever order the disk has
        (tmp_path / f"loop{number}.png").symlink_to(f"loop{number}.png")
    assert io.list_images(tmp_path) == ["a.png", "e.png"]
    monkeypatch.setattr(Image, "open", None)
    for name in "bcf":
        with pytest.raises(InputError, match=rf"{name}\.png: is not a file"):
            io.read_image(tmp_path / f"{name}.png")


def test_entries_stay_inside(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").write_text("")
    (root / "sub" / "a.png").write_text("")
    (root / "alias.png").symlink_to("sub/a.png")
    (root / "escape.png").symlink_to("../secret.png")
    (root / "out").symlink_to("..")
    assert io.resolve_inside(root, "sub/a.png") == io.resolve_inside(root, "alias.png")
    (root / "loop.png").symlink_to("loop.png")
    with pytest.raises(InputError, match=r"loop\.png"):
        io.read_image(io.resolve_inside(root, "loop.png"))
    bad = ["../secret.png", "sub/../../secret.png", "sub\\..\\..\\x", "/etc/passwd", "C:\\x", "escape.png"]
    for entry in [*bad, "out/secret.png", ""]:
        with pytest.raises(InputError, match="leads out"):
            io.resolve_inside(root, entry)


def test_read_list(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# two photographs\nb.png\n\n  a b.png \n")
    assert io.read_list(path) == ["b.png", "a b.png"]
    for text, message in (("", "empty"), ("a.png\n../b.png", "line 2"), ("a\nb\na", "line 3"), ("/a", "line 1")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            io.read_list(path)
    for code in ("utf-8-sig", "utf-16", "utf-8"):  # as Windows has them
        path.write_bytes("a\\é.png\r\nb.png\r\n".encode(code))
        assert io.read_list(path) == ["a/é.png", "b.png"]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        io.read_list(path)
    with pytest.raises(InputError, match="cannot read"):
        io.read_list(tmp_path / "none.txt")
