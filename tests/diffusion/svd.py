"""Stable Video Diffusion in small: the real classes with random weights, in the folders that diffusers writes."""
import torch

from gi.diffusion.extra import extra


def make_unet(**changes):
    options = {
        "in_channels": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "num_attention_heads": (1, 2),
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), "cross_attention_dim": 32,
        "addition_time_embed_dim": 32, "projection_class_embeddings_input_dim": 96, "num_frames": 25}
    return extra("diffusers").UNetSpatioTemporalConditionModel(**options | changes)


def make_vae():
    return extra("diffusers").AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1).eval()


def make_image_encoder():
    transformers = extra("transformers")
    config = transformers.CLIPVisionConfig(hidden_size=32, intermediate_size=64, projection_dim=32, num_hidden_layers=1,
                                           num_attention_heads=2, image_size=28, patch_size=14, hidden_act="gelu")
    return transformers.CLIPVisionModelWithProjection(config).eval()


def write_svd(folder, **changes):
    """A folder as diffusers and transformers write it; `changes` of the UNet's configuration."""
    torch.manual_seed(0)
    unet = make_unet(**changes)
    unet.save_pretrained(folder / "unet")
    make_vae().save_pretrained(folder / "vae")
    make_image_encoder().save_pretrained(folder / "image_encoder")
    extra("diffusers").EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", sigma_min=0.002, sigma_max=700.0,
        use_karras_sigmas=True).save_pretrained(folder / "scheduler")
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: small-test-licence\n---\n", encoding="utf-8")
    return folder
