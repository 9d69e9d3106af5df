"""Internal learning: a network fitted to the one video at hand ("Internal Video Inpainting by Implicit Long-range
Propagation", ICCV 2021).
"""
