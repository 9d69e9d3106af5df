"""Optical flow: estimators, warping, agreement, and what guidance by keyframes is made of."""
