"""SAM 2 with tiny random weights, against transformers' own session that holds the whole video."""
import os

import numpy as np
import pytest
import torch

from gi.errors import InputError
from gi.media.files import open_video
from tests.app.conftest import testclient, wait_for
from tests.video_helpers import moving_pictures, write_video

SIDE, WIDTH = 128, 128
pytestmark = pytest.mark.slow  # importing transformers' networks takes seconds


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder as that of the real weights, with the same classes, in small."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor
    folder = tmp_path_factory.mktemp("sam2")
    backbone = {"model_type": "sam2_hiera_det_model", "image_size": [SIDE, SIDE], "hidden_size": 8,
                "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 4], "window_size_per_stage": [4, 4, 4, 4],
                "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4]}
    vision = {"model_type": "sam2_vision_model", "backbone_config": backbone, "fpn_hidden_size": WIDTH,
              "backbone_channel_list": [64, 32, 16, 8],
              "backbone_feature_sizes": [[SIDE // stride] * 2 for stride in (4, 8, 16)]}
    config = transformers.Sam2VideoConfig(
        vision_config=vision, image_size=SIDE, memory_encoder_hidden_size=WIDTH, memory_encoder_output_channels=64,
        prompt_encoder_config={"hidden_size": WIDTH, "image_size": SIDE, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": WIDTH, "mlp_dim": 32, "num_hidden_layers": 1, "iou_head_hidden_dim": 32},
        memory_attention_hidden_size=WIDTH, memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2, mask_downsampler_embed_dim=WIDTH,
        memory_fuser_embed_dim=WIDTH, memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1)
    torch.manual_seed(0)
    model = transformers.Sam2VideoModel(config)
    with torch.no_grad():
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(5)  # there is an object
    model.save_pretrained(folder)
    sizes = {"height": SIDE, "width": SIDE}
    transformers.Sam2VideoProcessor(
        image_processor=Sam2ImageProcessor(size=sizes, mask_size={"height": SIDE // 4, "width": SIDE // 4}),
        video_processor=Sam2VideoVideoProcessor(size=sizes), target_size=SIDE).save_pretrained(folder)
    return str(folder)


def test_clicks_are_carried_as_by_a_session_of_the_whole_video(tmp_path, weights):
    """In bounded memory: frames are read when they are asked for, and states that are not asked for any more go."""
    from gi.video.sam2 import Click, ClickedObject
    write_video(tmp_path / "clip.mp4", moving_pictures(50))
    video = open_video(tmp_path / "clip.mp4")
    sam = ClickedObject(weights, device="cpu")
    clicks = [Click(10, 8, 1), Click(60, 40, 0)]
    found = dict(sam.masks(video, 25, clicks, carry=True))
    session = sam.processor.init_video_session(video=np.stack(list(video.frames())))
    expected = {}
    with torch.inference_mode():
        sam.processor.add_inputs_to_inference_session(session, frame_idx=25, obj_ids=1, input_labels=[[[1, 0]]],
                                                      input_points=[[[[10, 8], [60, 40]]]])
        sam.model(session, frame_idx=25)
        for reverse in False, True:
            for output in sam.model.propagate_in_video_iterator(session, start_frame_idx=25, reverse=reverse):
                mask = sam.processor.post_process_masks([output.pred_masks], [[48, 64]])[0][0, 0].numpy()
                expected.setdefault(output.frame_idx, mask)
    assert sorted(found) == sorted(expected) == list(range(50))
    assert np.mean([(found[number] != expected[number]).mean() for number in found]) < 1e-3
    assert 0.01 < np.mean(list(found.values())) < 0.99  # something to compare
    (number, alone), = sam.masks(video, 25, clicks, carry=False)
    assert number == 25 and np.array_equal(alone, found[25])


@pytest.mark.parametrize("carry", [False, True])
def test_clicks_on_the_page_become_a_mark_and_masks(arguments, weights, carry):
    from gi.app.server import create_app
    arguments.sam2 = weights
    with testclient.TestClient(create_app(arguments, make_example=False), base_url="http://127.0.0.1") as client:
        assert client.get("/api/state").json()["clicks"] == {"available": True, "why_not": None}
        write_video(arguments.folder / "clip.mp4", moving_pictures(4))
        call = f"/api/projects/{client.post('/api/projects', json={'path': 'clip.mp4'}).json()['id']}"
        for points in [], [[64, 1, 1]], [[1, 1]], "x", [["1", 1, 1]]:
            assert client.post(f"{call}/clicks", json={"frame": 2, "points": points}).status_code == 400
        told = client.post(f"{call}/clicks", json={"frame": 2, "points": [[10, 8, 1]], "carry": carry}).json()
        job = f"/api/jobs/{told['id']}"
        ended = wait_for(lambda: (now := client.get(job).json())["state"] in ("done", "failed") and now, 120)
        assert ended["state"] == "done", ended
        project = client.get(call).json()
        assert project["marks"] == [2]
        assert project["masks"] == ({"source": "clicks", "stale": False} if carry else None)


def test_weights_that_are_none_are_one_line(tmp_path):
    pytest.importorskip("transformers")
    from gi.video.sam2 import ClickedObject
    (tmp_path / "config.json").write_text("{}")
    os.environ["HF_HUB_OFFLINE"] = "1"
    with pytest.raises(InputError, match="cannot be loaded as SAM 2"):
        ClickedObject(str(tmp_path))
