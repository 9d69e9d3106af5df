"""Measures what the parts of the diffusion method bring, for docs/diffusion.md."""
