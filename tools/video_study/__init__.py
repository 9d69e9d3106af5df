"""Ablation study of the video pipeline: `study` measures it, `python -m tools.video_study DAVIS` draws it."""
