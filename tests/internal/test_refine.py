"""The method `refine`: candidates, the choice among them, the fit and what a job makes of it."""
import itertools

import numpy as np
import pytest
import torch

from gi.errors import InputError
from gi.internal import choose
from gi.internal import refine as module
from gi.internal.candidates import CANDIDATES, CLUES, GUESSED, Following, describe
from gi.internal.choose import Chooser, Pixels, fit, gains, improves, score
from gi.internal.moved import move, translations
from gi.media.files import open_video
from gi.media.masks import open_masks
from gi.video.job import VideoJob
from gi.video.method import build_method
from tests.test_video_pipeline import scene
from tests.video_helpers import write_folders

COUNT = 7


@pytest.fixture(scope="module")
def video():
    frames, masks = map(list, zip(*scene(COUNT, 40, 56), strict=True))
    return [np.where(mask[..., None] > 0, np.uint8(0), frame) for frame, mask in zip(frames, masks, strict=True)], masks


def picture(followed):
    return (255 * followed.image[0]).round().byte().permute(1, 2, 0).numpy()


def pixels(rule, *, seed=0, number=3000):
    """Random candidates whose truth `rule` tells from candidates and clues, and noise of 0.01."""
    random = torch.Generator().manual_seed(seed)
    colours = torch.rand(number, len(CANDIDATES), 3, generator=random)
    clues = torch.rand(number, CLUES, generator=random).round()
    truth = rule(colours, clues) + 0.01 * torch.randn(number, 3, generator=random)
    return Pixels(colours, clues, truth, torch.arange(number) % 10)


def test_following_is_flow_alone_and_says_how(video):
    options = {"flow": "dis", "every": 3, "device": "cpu"}
    expected = list(build_method("flow", options).fill(*video, edited={}))
    followed = list(Following.from_flow(**options).fill(*video, edited={}))
    drawing = torch.full((1, 3, 40, 56), 0.25)
    for number, (flow, frame) in enumerate(zip(expected, followed, strict=True)):
        assert np.array_equal(picture(frame), flow)
        hole = frame.mask[0, 0] > 0
        assert np.array_equal(hole.numpy(), video[1][number] > 0)
        guessed, unseen = frame.guessed > 0, (frame.mask > 0) & (frame.reached[:1] == 0)
        assert not (unseen & ~guessed).any() and not (guessed & (frame.mask == 0)).any()  # or shown, and doubted
        assert (frame.reached[1:] == (frame.steps > 0)).all() and (frame.error[frame.steps == 0] == 0).all()
        colours, clues = describe(frame, drawing)
        assert colours.shape == (hole.sum(), len(CANDIDATES), 3) and clues.shape == (hole.sum(), CLUES)
        assert torch.equal(colours[:, 0], frame.image[0][:, hole].T)
        assert torch.equal(clues[:, GUESSED], frame.guessed[0, 0, hole])
        unfitted = Chooser().requires_grad_(False)(colours, clues)
        assert torch.equal(unfitted, colours[:, 0])  # bit for bit
        for way, clue in ((1, 6), (2, 7)):
            assert torch.equal(clues[:, clue], frame.reached[way, 0, hole])
    assert followed[0].reached[2].sum() == 0 and followed[0].reached[1].sum() > 0  # nothing is before the first frame


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(choose, "STEPS", 100)
    monkeypatch.setattr(choose, "BATCH", 512)


def test_chooser_learns_who_is_right(short):
    """Where the third clue is 1 the drawing is right, elsewhere flow is."""
    def rule(colours, clues):
        return torch.where(clues[:, 2:3] > 0, colours[:, 2], colours[:, 0])

    places = [pixels(rule, seed=seed) for seed in range(3)]
    gained = list(gains(places))
    assert min(gained) > 5 and improves(gained)
    chooser = fit(places)
    guessed = places[0].clues.clone()
    guessed[:, GUESSED] = 1
    bold, careful = (chooser(places[0].colours, guessed, cautious=cautious) for cautious in (False, True))
    flow = places[0].colours[:, 0]
    assert torch.allclose(careful - flow, (bold - flow) / 2, atol=1e-6)


def test_score_is_psnr_of_frames():
    from skimage.metrics import peak_signal_noise_ratio
    some = pixels(lambda colours, clues: colours[:, 1])
    expected = [peak_signal_noise_ratio(some.truth[some.frame == i].numpy(), some.colours[some.frame == i, 0].numpy(),
                                        data_range=1) for i in range(10)]
    assert score(None, some) == pytest.approx(np.mean(expected), abs=1e-3)
    assert score(None, some._replace(truth=some.colours[:, 0])) == 60  # and no more where flow alone is exact


def test_no_choice_where_flow_is_right(short):
    gained = list(gains([pixels(lambda colours, clues: colours[:, 0], seed=seed) for seed in range(3)]))
    assert max(gained) < 0.1 and not improves(gained)
    assert not improves([3.0]) and not improves([1.0, -0.2, 1.0]) and improves([1.0, -0.05, 1.0])


def test_places_lie_apart():
    masks = np.zeros((4, 40, 64), np.uint8)
    masks[:, 15:25, 24:40] = 1
    moved = [move(masks, place) for place in translations(masks, 3)]
    for first, second in itertools.combinations([masks, *moved], 2):
        assert (first & second).sum() < 0.2 * masks.sum()
    assert all(part.sum() > 0.8 * masks.sum() for part in moved)
    assert np.array_equal(move(masks, (0.25, -0.125)), np.roll(masks, (10, -8), axis=(1, 2)))
    assert move(masks, (0, 0.5)).sum() == 4 * 10 * 8  # the rest has left the frame


# The method -----------------------------------------------------------------------------------------------------------

def job(folder, out, **options):
    source = open_video(folder / "frames")
    method = build_method("refine", {"steps": 2, "draw_side": 32, "device": "cpu"} | options)
    return VideoJob(method, source, open_masks(folder / "masks", source, dilate=0), out)


def pictures(folder):
    return np.stack(list(open_video(folder).frames()))


def test_job(tmp_path, monkeypatch):
    """Where the choice does not pay, flow alone; where it does, something else."""
    monkeypatch.setattr(choose, "STEPS", 20)
    folder = write_folders(tmp_path / "video", scene(COUNT, 40, 56))
    source = open_video(folder / "frames")
    flow = VideoJob(build_method("flow", {"device": "cpu"}), source, open_masks(folder / "masks", source, dilate=0),
                    tmp_path / "flow")
    list(flow.run())
    monkeypatch.setattr(module, "improves", lambda gains: False)
    list(job(folder, tmp_path / "same").run())
    assert np.array_equal(pictures(tmp_path / "same"), pictures(tmp_path / "flow"))
    monkeypatch.setattr(module, "improves", lambda gains: True)
    list(job(folder, tmp_path / "whole").run())
    assert not np.array_equal(pictures(tmp_path / "whole"), pictures(tmp_path / "flow"))
    known = np.stack([mask == 0 for _, mask in scene(COUNT, 40, 56)])
    assert np.array_equal(pictures(tmp_path / "whole")[known], pictures(tmp_path / "flow")[known])


@pytest.mark.slow
def test_an_interrupted_job_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(choose, "STEPS", 20)
    monkeypatch.setattr(module, "improves", lambda gains: True)
    folder = write_folders(tmp_path / "video", scene(COUNT, 40, 56))
    list(job(folder, tmp_path / "whole").run())
    for stop in (2, 5):
        running = job(folder, tmp_path / "parts").run()
        list(itertools.islice(running, stop))
        running.close()
    passes = []
    original = module.Refine._pixels
    monkeypatch.setattr(module.Refine, "_pixels", lambda self, *args: passes.append(args[-1]) or original(self, *args))
    list(job(folder, tmp_path / "parts").run())
    assert np.array_equal(pictures(tmp_path / "parts"), pictures(tmp_path / "whole"))
    assert passes == [1, 2]  # the first place was kept


@pytest.mark.parametrize("options, message", [
    ({"steps": 0}, "minutes or steps: expected more than 0"),
    ({"minutes": 1}, "minutes and steps: expected one of them"),
    ({"flow": "config"}, "flow: expected one of"),
])
def test_options(tmp_path, options, message):
    folder = write_folders(tmp_path / "video", scene(2, 40, 56))
    with pytest.raises(InputError, match=message):
        job(folder, tmp_path / "a", **options)


def test_unusual_videos(tmp_path, monkeypatch, capsys):
    """One frame; holes so large that they cannot be moved anywhere; nothing to learn from."""
    monkeypatch.setattr(choose, "STEPS", 20)
    (frame, mask), *_ = scene(1, 40, 56)
    large = np.ones_like(mask)
    large[:, :8] = 0
    for name, hole in (("one", mask), ("large", large)):
        list(job(write_folders(tmp_path / name, [(frame, hole)]), tmp_path / f"{name}-out").run())
        assert (pictures(tmp_path / f"{name}-out")[0] == frame)[hole == 0].all()
    assert "no two places over known pixels that holes can be moved to; flow alone is given" in capsys.readouterr().err
    with pytest.raises(InputError, match="cover every frame wholly"):
        list(job(write_folders(tmp_path / "all", [(frame, np.ones_like(mask)), (frame, np.ones_like(mask))]),
                 tmp_path / "all-out").run())
