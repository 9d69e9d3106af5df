"""Optical flow: estimators, warping, agreement of keyframes with the target, and the guidance of generators."""
