"""Ablation studies of the diffusion method, for docs/diffusion.md."""
