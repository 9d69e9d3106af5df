"""The video method `refine`: flow fills the holes, a network that is fitted to the video draws them, and another one,
fitted to known pixels that moved holes hide, chooses between the two for each pixel.
"""
import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from gi.compositing import pixels_of_tensor, tensor_of_pixels
from gi.errors import InputError, expect_at_least
from gi.internal.candidates import Followed, Following, describe
from gi.internal.choose import Chooser, Pixels, fit, gains, improves
from gi.internal.fitting import Fitting, Recipe, expect_budget
from gi.internal.moved import move, translations
from gi.internal.networks import Base
from gi.internal.objective import TwoPhases
from gi.internal.reconstruction import Reconstruction
from gi.internal.shot import Shot, mapped
from gi.media.crop import limited, resize_known
from gi.video.method import Part, Pictures, VideoMethod, apart, say
from gi.weights.files import load_strict, write_state
from gi.weights.unpickle import read_checkpoint

PLACES = 3  # that holes are moved to
FRAMES = 120  # approximate number of frames of a long video in which holes are moved
PIXELS = 60_000  # sampled for each place
LEFT = 0.5  # of the known pixels must stay visible for learning, or there are fewer places
SHARE = 0.75  # of the time is for fitting the network that draws


class Refine(VideoMethod):
    """Learns, by moving holes over known pixels, where flow errs in this video, and what to show instead.

    These pixels are hidden from the network that draws, too, or it would have memorised them. Choosers are fitted to
    all places but one and tried at that one; unless that gains 0.1 dB in the mean and costs 0.1 dB nowhere, the result
    is that of flow alone.

    Args:
        minutes, steps: how long the network that draws is fitted: three quarters of `minutes`, the rest being for the
            other stages, or so many steps. An interrupted fit goes on.
        flow: one of `gi.weights.pretrained.FLOWS`.
        draw_side: the longer side of the frames it draws.
        max_side, resize: as of the method `flow`, whose result is the start.
        seed: of all that is random.
    """

    def __init__(self, *, minutes: float | None = None, steps: int | None = None, flow: str = "dis",
                 draw_side: int = 216, max_side: int | None = None, resize: Sequence[int] | None = None,
                 device: str | torch.device = "auto", seed: int = 0):
        expect_at_least(0, seed=seed)
        expect_at_least(8, draw_side=draw_side)
        self.minutes, self.steps = expect_budget(minutes, steps)
        if (self.minutes if self.steps is None else self.steps) <= 0:
            raise InputError("minutes or steps: expected more than 0")
        self.flow = Following.from_flow(flow, device=device, max_side=max_side,
                                        resize=None if resize is None else tuple(resize))
        self.draw_side, self.seed, self.device = draw_side, seed, self.flow.device
        self.network: torch.nn.Module | None = None
        self.chooser: Chooser | None = None  # None: flow alone

    def settings(self) -> dict[str, object]:
        return {"flow": self.flow.settings(), "minutes": self.minutes, "steps": self.steps,
                "draw_side": self.draw_side, "seed": self.seed}

    def parts(self, count: int, *, edited: Collection[int] = ()) -> list[Part]:
        return self.flow.parts(count, edited=edited)

    def fit(self, frames: Pictures, masks: Pictures, *, folder: Path,
            edited: Mapping[int, np.ndarray]) -> Iterator[tuple[int, int]]:
        """Edits change the fill, not the fit. The stages' results lie in `folder`: state.pt, place-N.pt, chooser.pt."""
        size = limited((frames.height, frames.width), self.draw_side)
        shot = Shot.read(frames.frames(), masks.frames(), count=frames.count, size=size, folder=folder)
        shot.expect_holes()
        places = translations(shot.masks, PLACES, seed=self.seed)
        least = LEFT * _known(shot.masks)
        while places and _known(shot.masks, places) < least:
            places.pop()
        for done, total in self._fit_network(shot, places, folder):
            yield done, round(total / SHARE)
        learned = folder / "chooser.pt"
        if not learned.is_file():
            place_pixels = []
            for number, place in enumerate(places):
                yield round(total * (1 + (1 / SHARE - 1) * number / len(places))), round(total / SHARE)
                kept = folder / f"place-{number}.pt"
                if not kept.is_file():
                    write_state(kept, self._pixels(frames, masks, place, number)._asdict(), durable=True)
                place_pixels.append(Pixels(**read_checkpoint(kept)))
            write_state(learned, self._learn([pixels for pixels in place_pixels if len(pixels.frame)]), durable=True)
        state = read_checkpoint(learned)
        self.chooser = None
        if improves(state["gains"]):
            self.chooser = Chooser().requires_grad_(False)
            load_strict(self.chooser, state["chooser"], learned)
            self.chooser.to(self.device)
        gained = ", ".join(f"{gain:+.2f}" for gain in state["gains"])
        say((f"beside flow alone, at known pixels that moved holes hide: {gained} dB; " if gained else
             "no two places over known pixels that holes can be moved to; ")
            + ("choosing" if self.chooser else "flow alone is given"))
        yield round(total / SHARE), round(total / SHARE)

    def fill(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], *, edited: Mapping[int, np.ndarray],
             part: Part | None = None) -> Iterator[np.ndarray | None]:
        if self.network is None:
            raise InputError("the networks are not fitted to a video yet: expected a call of fit before")
        for followed in self.flow.fill(frames, masks, edited=edited, part=part):
            yield None if followed is None else self._choose(followed)  # type: ignore[arg-type]  # see `Following`

    @torch.no_grad()
    def _choose(self, followed: Followed) -> np.ndarray:
        if self.chooser is None or not followed.mask.any():
            return pixels_of_tensor(followed.image[0])
        colours, clues = describe(followed, self._draw(followed))
        image, hole = followed.image.clone(), followed.mask[0, 0] > 0
        image[0, :, hole] = self.chooser(colours, clues, cautious=True).clamp(0, 1).T
        return pixels_of_tensor(image[0])

    def _fit_network(self, shot, places, folder):
        """Fits the network that draws; for it, pixels that holes hide at `places` are missing like those in the holes.
        """
        def moved(rng, height, width, growth=1.0):
            by = int(rng.integers(height)), int(rng.integers(width))
            return np.roll(shot.masks[shot.holes[rng.integers(len(shot.holes))]], by, axis=(0, 1))

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = Base().to(self.device)
        fitting = Fitting(network, Shot(shot.frames, _hidden(shot.masks, places, folder)),
                          TwoPhases(terms={"reconstruction": Reconstruction()}).to(self.device), Recipe(1, 2e-3),
                          folder=folder, minutes=None if self.minutes is None else SHARE * self.minutes,
                          steps=self.steps, holes=moved, early_stop=False, seed=self.seed, say=say)
        yield from fitting.run()
        self.network = fitting.average.eval()

    @torch.no_grad()
    def _draw(self, followed):
        """(1, 3, h, w): the drawing for the hole of a frame, at the size of `followed`."""
        size = followed.mask.shape[-2:]
        frame, hole = resize_known(pixels_of_tensor(followed.image[0]), followed.mask[0, 0].cpu().numpy() > 0,
                                   limited(tuple(size), self.draw_side))
        image = tensor_of_pixels(frame, self.device)[None]
        drawing = self.network(image, torch.from_numpy(hole).to(image)[None, None])[-1].float()
        return drawing if drawing.shape[-2:] == size else F.interpolate(drawing, size, mode="bicubic")

    def _pixels(self, frames, masks, place, number):
        """Pixels that holes hide which are moved to a place, with their candidates."""
        parts = self.flow.parts(frames.count)
        parts = parts[::-(-frames.count // FRAMES)]
        each, samples = -(-PIXELS // sum(len(part.frames) for part in parts)), []
        for part in parts:
            for index, truth, hole, followed in self._followed(frames, masks, place, part):
                truth, hole = resize_known(truth, hole != 0, tuple(followed.mask.shape[-2:]))
                missing = followed.mask[0, 0].cpu().numpy() > 0
                hidden = np.flatnonzero(~hole[missing])
                if not len(hidden):
                    continue
                rng = np.random.default_rng((self.seed, number, index))
                some = torch.from_numpy(rng.choice(hidden, min(each, len(hidden)), replace=False))
                colours, clues = (x[some].cpu() for x in describe(followed, self._draw(followed)))
                target = torch.from_numpy(truth[missing][some.numpy()]).float() / 255
                samples.append((colours, clues, target, torch.full((len(some),), index)))
        return Pixels(*map(torch.cat, zip(*samples, strict=True))) if samples else Pixels(*(torch.zeros(0),) * 4)

    def _followed(self, frames, masks, place, part):
        """(number, frame, hole, `Followed`) of the frames in which the hole moved to `place` hides something."""
        def masked():
            for frame, hole in zip(frames.frames(part.start, part.end), masks.frames(part.start, part.end),
                                   strict=True):
                hole = (hole != 0).astype(np.uint8)
                both = np.maximum(hole, move(hole, place))
                yield np.where(both[..., None] > 0, np.uint8(0), frame), both, (frame, hole)

        visible, holes, truths = apart(masked(), 3)
        truths = itertools.islice(truths, part.first - part.start, None)
        for index, followed in zip(part.frames, self.flow.fill(visible, holes, edited={}, part=part), strict=True):
            truth, hole = next(truths)
            if followed is not None:
                yield index, truth, hole, followed

    def _learn(self, places):
        """{"gains": …, "chooser": its weights}, without weights if they would not be used."""
        gained = list(gains(places, seed=self.seed)) if len(places) > 1 else []
        return {"gains": gained, "chooser": fit(places, seed=self.seed).state_dict() if improves(gained) else {}}


def _hidden(masks, places, folder):
    """Masks (N, H, W) and all that they hide at `places`; in a file of `folder` where `masks` are in one."""
    in_file = isinstance(masks, np.memmap)
    hidden = mapped(folder / "hidden.npy", masks.shape) if in_file else np.empty_like(masks)
    for number, mask in enumerate(masks):
        hidden[number] = _with_moved(mask, places)
    return hidden


def _with_moved(mask, places):
    return functools.reduce(np.maximum, (move(mask, place) for place in places), mask)


def _known(masks, places=()):
    """Pixels of masks (N, H, W) that are known, also beside what they hide at `places`."""
    return sum(np.count_nonzero(_with_moved(mask, places) == 0) for mask in masks)
