"""Whole videos through the pipeline: a smooth scene that a camera pans over, with a hole that moves on its own."""
import functools
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from gi.compositing import pixels_of_tensor, tensor_of_pixels
from gi.errors import InputError
from gi.flow.estimate import DIS
from gi.flow.guidance import FlowGuidance
from gi.flow.threads import torch_threads
from gi.flow.warp import warp
from gi.media.arguments import masks_of
from gi.models.classical import opencv_inpaint
from gi.video import VideoInpainter
from gi.video.keyframes import plan
from gi.video.keyframes.chunk import ChunkFiller
from gi.video.keyframes.flows import VideoFlows
from gi.video.keyframes.region import is_thin, region
from gi.video.method import insert, joined
from gi.video.per_frame import PerFrame
from tests.families import tiny_generator

HEIGHT, WIDTH = 64, 112


def scene(count, height=HEIGHT, width=WIDTH, seed=0):
    """frames and masks: the camera moves 1.5 pixels a frame to the right, the hole 2 the other way."""
    rng = np.random.default_rng(seed)
    waves = [(rng.uniform(-0.35, 0.35, 2), rng.uniform(0, 7, 3)) for _ in range(12)]
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        frame = sum(np.sin(f[0] * (x + 1.5 * i)[..., None] + f[1] * y[..., None] + p) for f, p in waves)
        mask = np.zeros((height, width), np.uint8)
        left = int(width * 0.6 - 2 * i) % (width - 16)
        mask[height // 3 : height // 3 + 14, left : left + 14] = 1
        yield np.clip(127 + 15 * frame, 0, 255).astype(np.uint8), mask


def build(generator=None, **options):
    return VideoInpainter(generator=generator, guidance=FlowGuidance(estimator=DIS(), resolution=64, mask_images=True),
                          device="cpu", **{"every": 5, "guides": [-8, -3, 3, 8], **options})


def run(inpainter, frames, masks, **options):
    return np.stack(list(inpainter(iter(frames), iter(masks), **options)))


@pytest.fixture(scope="module")
def video():
    return tuple(map(list, zip(*scene(23), strict=True)))


@pytest.fixture(scope="module")
def network():
    return tiny_generator("ours", n_blocks=2, n_cross=1)


def hole_psnr(result, truth, masks):
    hole = np.stack(masks) > 0
    return -10 * np.log10((((result[hole] - np.stack(truth)[hole].astype(float)) / 255) ** 2).mean())


def test_flow_finds_what_the_hole_hides(video):
    frames, masks = video
    result = run(build(), frames, masks)
    tensors = [torch.from_numpy(np.stack(part)) for part in (frames, masks)]
    telea = opencv_inpaint(tensors[0].permute(0, 3, 1, 2).float() / 255, tensors[1][:, None].float())
    telea = (255 * telea).round().permute(0, 2, 3, 1).numpy()
    assert hole_psnr(result, frames, masks) > hole_psnr(telea, frames, masks) + 4
    known = np.stack(masks) == 0
    assert result.dtype == np.uint8 and np.array_equal(result[known], np.stack(frames)[known])


def test_changes_of_exposure_are_followed(video):
    frames, masks = video
    lit = [np.clip(frame * (0.9 + 0.3 * np.sin(i / 4)), 0, 255).astype(np.uint8) for i, frame in enumerate(frames)]
    result = hole_psnr(run(build(), lit, masks), lit, masks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gi.video.keyframes.flows.VideoFlows.gain", lambda *_: torch.ones(3))
        plain = hole_psnr(run(build(), lit, masks), lit, masks)
    assert result > plain + 0.5


def test_what_the_holes_hold_has_no_influence(video, network):
    frames, masks = video
    other = [np.where(mask[..., None] > 0, 255 - frame, frame) for frame, mask in zip(frames, masks, strict=True)]
    assert np.array_equal(run(build(network), frames, masks), run(build(network), other, masks))


def test_flow_alone_is_the_same_on_any_number_of_threads(video):
    results = []
    for threads in (1, 2, 3):
        with torch_threads(threads):
            results.append(run(build(), *video))
    assert all(np.array_equal(result, results[0]) for result in results)


def test_generators_see_what_flow_leads_to_where_little_is_left():
    """A rectangle with the hole and where it leads to; a copy along flow is the same in it as in the whole frame."""
    mask, image = torch.zeros(1, 1, 240, 432), torch.rand(1, 3, 240, 432)
    mask[..., 100:120, 40:60] = 1
    flow = torch.tensor([55.3, 40.7]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 240, 432)
    box = region(mask, torch.cat([flow, -3 * flow], dim=1))  # the second leads out of the frame
    assert box.top <= 68 and box.bottom >= 120 + 41 + 32 and box.left == 0 and 147 <= box.right <= 176
    whole, part = (warp(x, flow[0][..., :x.shape[-2], :x.shape[-1]]) for x in (image, image[inside(box)]))
    hole = mask[inside(box)].expand(1, 3, -1, -1) > 0
    assert torch.allclose(whole[inside(box)][hole], part[hole], atol=1e-4)
    assert region(torch.ones_like(mask), flow) is None
    for height, thin in ((6, True), (8, False)):
        strip = torch.zeros(1, 1, 240, 432)
        strip[..., 50:50 + height, 30:400] = 1
        assert is_thin(strip) is thin


def inside(box):
    return ..., slice(box.top, box.bottom), slice(box.left, box.right)


@pytest.mark.parametrize("prealign", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_parts_computed_apart_equal_a_single_run(video, network, prealign):
    frames, masks = video
    inpainter = build(network, prealign=prealign)
    whole, parts = run(inpainter, frames, masks), inpainter.parts(len(frames))
    assert [number for part in parts for number in part.frames] == list(range(len(frames)))
    for part in (*reversed(parts), joined(parts[1:3])):
        fills = inpainter.fill(frames[part.start:part.end], masks[part.start:part.end], edited={}, part=part)
        for number, fill in zip(part.frames, fills, strict=True):
            assert np.array_equal(insert(fill, frames[number], masks[number]), whole[number]), number


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(network):
    """What is kept while a long video streams through: the frames within reach, never all of them."""
    inpainter, kept = build(network, flow_budget=1 << 20), []
    streams = itertools.tee(scene(120, 32, 48))
    window = None

    def masks():
        for _, mask in streams[1]:
            if window is not None:
                kept.append(len(window._kept))
            yield mask
    original = inpainter.window

    def spy(*args, **options):
        nonlocal window
        window = original(*args, **options)
        return window
    inpainter.window = spy
    for number, _ in enumerate(inpainter((frame for frame, _ in streams[0]), masks())):
        assert window.next - number <= inpainter.longest + inpainter.reach + 8
    assert number == 119 and max(kept) <= 2 * inpainter.reach + 2 * inpainter.longest


def test_each_frame_is_encoded_once(video):
    """14 guides a target share streams: as many passes as there are different guides, and the key targets' own."""
    network = tiny_generator("ours", n_blocks=2, n_cross=1)
    frames, masks = video
    inpainter = build(network, prealign=False, tolerance=0.0)  # flow reaches nothing: the network fills everything
    window = inpainter.window(iter(frames), iter(masks))
    window.read_to(1000)
    window.count = len(frames)
    filler = ChunkFiller(inpainter, window)
    anchors = plan.anchors(len(frames), every=5)
    for chunk in plan.chunks(anchors):
        filler(chunk)
    wanted = set().union(*(plan.guides(anchor, len(frames), inpainter.offsets) for anchor in anchors))
    assert filler.streams.passes == len(wanted) + len(anchors)


def test_edited_frames_are_kept_and_guide_the_others(video):
    frames, masks = video
    edited = frames[10].copy()
    edited[masks[10] > 0] = (255, 0, 0)
    result = run(build(), frames, masks, edited={10: edited})
    assert np.array_equal(result[10], edited)
    red = [np.abs(result[i].astype(int) - (255, 0, 0)).sum(axis=-1)[masks[i] > 0].min() for i in range(len(frames))]
    assert red[9] < 60 and red[11] < 60  # what was painted there moves along with the scene
    without = run(build(), frames, masks)
    assert not np.array_equal(result[8], without[8])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_videos(count, network):
    frames, masks = map(list, zip(*scene(count), strict=True))
    result = run(build(network), frames, masks)
    assert len(result) == count
    known = np.stack(masks) == 0
    assert np.array_equal(result[known], np.stack(frames)[known])


def test_no_hole_at_all_and_nothing_but_hole(video, network):
    frames, masks = video
    assert np.array_equal(run(build(network), frames, [mask * 0 for mask in masks]), np.stack(frames))
    everything = [mask * 0 + 1 for mask in masks[:7]]
    for generator in (network, None):
        with pytest.raises(InputError, match="frame 0: everything is missing"):
            run(build(generator), frames[:7], everything)
        result = run(build(generator), frames[:7], [*masks[:3], everything[3], *masks[4:7]])
        assert result.shape == (7, HEIGHT, WIDTH, 3) and result[3].std() > 10  # the others show it


def test_what_a_damaged_network_makes_is_refused(video):
    broken = tiny_generator("ours", n_blocks=1, n_cross=1)
    for parameter in broken.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        run(build(broken, prealign=False), *(part[:7] for part in video))


def test_frames_and_masks_as_python_has_them(video):
    """Arrays, tensors, PIL images, of any kind of mask; an edited frame in a dictionary or a list."""
    def fill(*arguments, **options):
        return np.stack(list(build()(*arguments, **options)))

    frames, masks = (list(part[:7]) for part in video)
    expected, edit = fill(frames, masks), 255 - frames[0]
    kinds = [np.stack(masks), np.stack(masks)[..., None], torch.from_numpy(np.stack(masks)),
             [mask > 0 for mask in masks], [mask.astype(np.float32) for mask in masks],
             [Image.fromarray(mask * np.uint8(90)) for mask in masks],
             [mask[None] * np.uint16(999) for mask in masks],
             [mask * np.uint8(1 + i) for i, mask in enumerate(masks)]]
    for kind in kinds:
        for given in (kind, iter(kind)):
            np.testing.assert_array_equal(fill([Image.fromarray(frame) for frame in frames], given), expected)
    changed = fill(frames, masks, edited={0: edit})
    for edited in ([edit], [Image.fromarray(edit), None]):
        np.testing.assert_array_equal(fill(frames, masks, edited=edited), changed)
    assert (changed != expected).any()
    noisy = [mask * np.uint8(255) for mask in masks]
    noisy.insert(0, noisy[0] * 0)
    noisy[0][:2, :2] = 3
    assert not next(masks_of(noisy)).any()  # in a list, the others tell
    painted = [np.dstack([mask * np.uint8(colour), mask * np.uint8(255)])
               for mask, colour in zip(masks, (0, 255), strict=False)]  # black, then white, on transparent
    for arguments, message in [
        ((frames[0], masks), "frames: is one array"), ((frames, masks[0]), "masks: is one array"),
        (("a.mp4", masks), "frames: is a str"), ((frames, iter(noisy)), "mask 1: has values up to 255"),
        ((frames, iter(painted)), "mask 1: has values up to 255"),
    ]:
        with pytest.raises(InputError, match=message):
            fill(*arguments)
    for edited, message in [(edit, "edited: is one array"), ({"0": edit}, "'0' is not a frame number"),
                            ({1: edit / 2}, "edited frame 1: is float64")]:
        with pytest.raises(InputError, match=message):
            fill(frames, masks, edited=edited)


def test_odd_sizes_and_working_small(network):
    frames, masks = map(list, zip(*scene(7, 65, 111), strict=True))
    known = np.stack(masks) == 0
    for options in ({}, {"max_side": 40}, {"resize": (48, 32)}):
        result = run(build(network, **options), frames, masks)
        assert result.shape == (7, 65, 111, 3)
        assert np.array_equal(result[known], np.stack(frames)[known])
    small = run(build(max_side=90), frames, masks)
    assert hole_psnr(small, frames, masks) > 20


@pytest.mark.parametrize("name", ["lama", "lama_spectralfuse", "transformer", "ours_no_ffc"])
def test_every_family_fills_videos(name, video):
    frames, masks = video
    result = run(build(tiny_generator(name), tolerance=0.0), frames[:7], masks[:7])
    known = np.stack(masks[:7]) == 0
    assert np.array_equal(result[known], np.stack(frames[:7])[known])


@pytest.mark.parametrize("change, message", [
    (lambda f, m: ([], []), "the video has no frames"),
    (lambda f, m: (f, m[:-1]), "22 masks, but more frames"),
    (lambda f, m: (f[:-2], m), "21 frames, but more masks"),
    (lambda f, m: (f[:3] + [f[3][:-1]] + f[4:], m), "frame 3: 112x63, but the first one is 112x64"),
    (lambda f, m: (f, m[:3] + [m[3][:, :-1]] + m[4:]), "mask 3: 111x64, but its frame is 112x64"),
    (lambda f, m: ([x.astype(float) for x in f], m), "frame 0: is float64 .* expected uint8"),
])
@pytest.mark.parametrize("method", [build, functools.partial(PerFrame, network=False, device="cpu")])
def test_frames_that_do_not_fit_are_named(video, method, change, message):
    with pytest.raises(InputError, match=message):
        run(method(), *change(*video))


@pytest.mark.parametrize("options, message", [
    ({"every": 0}, "every: expected at least 1"),
    ({"max_side": 8}, "max_side: expected at least 32"),
    ({"resize": (8, 64)}, "resize: expected"),
    ({"guides": 5}, "guides: expected 6, 14, 0"),
])
def test_bad_settings_are_named(options, message):
    with pytest.raises(InputError, match=message):
        build(**options)


@pytest.mark.parametrize("method", [build, functools.partial(PerFrame, network=False, device="cpu")])
def test_edited_frames_that_do_not_fit_are_named(video, method):
    with pytest.raises(InputError, match="edited frame 40: the video has frames 0 to 22"):
        run(method(), *video, edited={40: video[0][0]})
    with pytest.raises(InputError, match="edited frame 4: 111x64, but the video is 112x64"):
        run(method(), *video, edited={4: video[0][0][:, 1:]})


class Bright(torch.nn.Module):
    """A network that gives more than there is, as trained ones do for a white wall."""

    def forward(self, target, sources, flows, flow_errors):
        return torch.full_like(target[:, :3], 1.01)


@pytest.mark.parametrize("kind", ["keyframes", "per-frame"])
def test_what_is_brighter_than_white_is_white(video, kind):
    frames, masks = (part[:1] for part in video)  # no other frame that flow could lead to
    method = build() if kind == "keyframes" else PerFrame(network=False, device="cpu")
    method.generator = Bright()
    result = run(method, frames, masks)
    assert (result[np.stack(masks) > 0] == 255).all()


def test_pixels_of_8_bits_survive_the_way_to_tensors_and_back():
    pixels = np.arange(256 * 3, dtype=np.uint16).astype(np.uint8).reshape(2, 16, 8, 3)
    tensor = tensor_of_pixels(pixels)
    assert tensor.shape == (2, 3, 16, 8) and tensor.dtype == torch.float32
    assert np.array_equal(tensor[1, 2].numpy(), pixels[1, ..., 2] / np.float32(255))
    assert np.array_equal(pixels_of_tensor(tensor), pixels)
    assert np.array_equal(pixels_of_tensor(tensor[1]), pixels[1])
    beyond = torch.tensor([-0.01, 1.01, 0.5]).view(3, 1, 1)
    assert pixels_of_tensor(beyond).tolist() == [[[0, 255, 128]]]


def test_flow_is_kept_within_a_budget(video):
    inpainter, pair = build(), 2 * 2 * HEIGHT * WIDTH * 2  # bytes of both directions in half precision
    window = inpainter.window(*map(iter, video))
    window.read_to(6)
    ample, flows, tiny = (VideoFlows(inpainter.guidance, window, budget=size) for size in (1 << 29, 2 * pair, pair - 1))
    for first in (0, 1, 0, 2):
        expected = ample.to_neighbour(first, first + 1)
        for some in (flows, tiny):
            assert all(map(torch.equal, some.to_neighbour(first, first + 1), expected))
    assert set(flows.kept) == {("neighbour", 0, 1), ("neighbour", 2, 3)}  # 1 was the least recently used when 2 came
    assert flows.kept.currsize == 2 * pair and not tiny.kept
    flows.drop(2)
    assert set(flows.kept) == {("neighbour", 2, 3)}


def test_flow_of_large_frames_is_kept_at_half_their_size():
    frames, masks = map(list, zip(*scene(3, height=47, width=645), strict=True))
    inpainter = build()
    window = inpainter.window(iter(frames), iter(masks))
    window.read_to(3)
    large = VideoFlows(inpainter.guidance, window)
    estimated = large._both(0, 1)
    assert estimated.shape == (2, 2, 24, 323) and estimated.dtype == torch.float16
    flow, back = large.to_neighbour(0, 1)
    assert flow.shape == back.shape == (1, 2, 47, 645) and flow.dtype == torch.float32
    expected = torch.tensor([-1.5, 0.0])[:, None, None]  # of the scene
    for one, sign in ((flow, 1), (back, -1)):
        assert (one[0] - sign * expected).abs().mean() < 0.1
    assert large.kept["neighbour", 0, 1].nbytes == 2 * 2 * 24 * 323 * 2
    for number in range(3):  # masks are kept as bits, of which 645 fill no whole number of bytes
        image, mask = window.frame(number)
        assert np.array_equal(mask[0, 0].numpy(), masks[number])
        picture = (255 * image[0]).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(picture, frames[number] * (1 - masks[number][..., None]))
