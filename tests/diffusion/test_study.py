"""What the studies of tools/diffusion_study measure."""
import json
import math

import numpy as np
import pytest
import torch

from gi.errors import InputError
from gi.media import io
from tools.diffusion_study import compare, long, study
from tools.diffusion_study.videos import MarkedVideos


def test_measures_of_the_study():
    masks = torch.zeros(1, 3, 1, 16, 16)
    masks[:, :2, :, 4:12, 4:12] = 1  # nothing is missing in the last frame, the first one is a keyframe
    clips = study.Set(torch.full((1, 3, 3, 16, 16), 0.5), masks, torch.ones(1))
    filled = clips.pixels + 0.1 * masks
    filled[:, 0] = 0
    filled[:, 1, :, 4:12, 4:6] -= 0.4  # a dark edge inside, and a bright one outside
    filled[:, 1, :, 4:12, 3] += 0.05
    error = [0.1] * 48 + [0.3] * 16
    assert study.hole_scores(clips, filled) == pytest.approx([-10 * math.log10(sum(x * x for x in error) / 64)])
    found = study.leakage(clips, filled)
    ring, outside = 8 * 8 - 4 * 4, 12 * 12 - 8 * 8
    assert found == pytest.approx({"known": 255 * 0.05 * 8 / outside, "darker_within": -25.5,
                                   "hole": 255 * (0.3 * 16 + 0.1 * (ring - 16)) / ring,
                                   "darker": 255 * (0.3 * 16 - 0.1 * (ring - 16)) / ring}, rel=1e-4)


def test_clips_of_marked_videos(tmp_path):
    for frame in range(6):
        picture, mark = np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.uint8)
        mark[8:20, 10 + 2 * frame:22 + 2 * frame] = 255
        picture[mark > 0] = 200
        for kind, content in (("frames", picture), ("masks", mark)):
            io.write_image(tmp_path / kind / "video" / f"{frame}.png", content)
    source = MarkedVideos(root=str(tmp_path), frames=2, height=16, width=16, rate=12.5, smallest=0.1)
    clips = [source.clip(np.random.default_rng(seed), 0) for seed in range(8)]
    for clip in clips:
        assert np.array_equal(clip.frames[..., 0] > 100, clip.shape) and clip.fps == 12.5
    assert len({clip.shape.tobytes() for clip in clips}) > 2
    with pytest.raises(InputError, match="covers 50% of every frame"):
        MarkedVideos(root=str(tmp_path), frames=2, height=16, width=16, rate=12.5, smallest=0.5).clip(
            np.random.default_rng(0), 0)


def test_comparison_over_seeds_is_clip_by_clip(tmp_path):
    def ways(first):
        return {way: [first + shift, first + 2 + shift, None] for way, shift in
                (("sample", 1), ("sample_alone", 0), ("estimate", 3), ("estimate_alone", 0.5))}

    def run(path, copies=(9.0, 9.0, 9.0), **models):
        border = {f"{label}: {way}": dict.fromkeys("abcd", value) for label, value in models.items()
                  for way in ("sample", "estimate")}
        path.write_text(json.dumps({"psnr_hole": {"object": {"": {"copy": copies}} | {
            label: ways(value) for label, value in models.items()}}, "border": {"object": border}}))
        return path

    paths = [run(tmp_path / "a.json", ours_0=10, rival_0=9), run(tmp_path / "b.json", ours_1=14, rival_1=12)]
    scores, borders = compare.gathered(paths)
    rows = {row[0]: row[1:] for row in compare.score_table(scores["object"], "rival").rows}
    assert rows["one sample, keyframe"] == ["14.00 ± 1.00 (12.00, 16.00)", "12.50 ± 1.00 (11.00, 14.00)",
                                            "+1.50 ± 0.00 (+1.00, +2.00)"]
    assert rows["first step's estimate: gain by the keyframe"][0] == "2.50 ± 0.00 (2.50, 2.50)"
    assert compare.border_table(borders["object"]).rows[0] == ["ours: estimate", *["12.00 ± 2.00"] * 4]
    with pytest.raises(InputError, match="other clips"):
        compare.gathered([paths[0], run(tmp_path / "c.json", copies=(1.0, 1.0, 1.0), ours_0=10)])


def test_table_of_plans_by_distance():
    ours = np.stack([np.stack([np.full(9, 10.0 + clip), np.full(9, 0.5)]) for clip in (0, 2)])
    rival = ours - [[[1], [-0.1]]]
    clip = np.stack([np.full((2, 9), np.nan), np.full((2, 9), 0.25)], axis=1)
    lines = long.table({"coarse to fine": ours, "MultiDiffusion": rival, "the clip itself": clip}, 5).splitlines()
    assert lines[0] == "|  | 1–4 | 5–8 |"
    assert lines[2] == "| coarse to fine | 11.00 ± 1.00 / 0.500 ± 0.000 |" + " 11.00 ± 1.00 / 0.500 ± 0.000 |"
    assert lines[4].startswith("| the clip itself | – / 0.250 ± 0.000 |")
    assert lines[5].startswith("| coarse to fine − MultiDiffusion | +1.00 ± 0.00 / -0.100 ± 0.000 |")
