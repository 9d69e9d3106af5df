"""Keyframe-guided diffusion: an image-to-video model, repurposed to carry an edited keyframe through the video
("Keyframe-Guided Creative Video Inpainting", CVPR 2025).
"""
