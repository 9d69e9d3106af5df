"""Ablation study of internal learning: `study` measures it, `python -m tools.internal_study` prints it."""
