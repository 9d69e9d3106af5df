"""Scores of images and videos, and the networks that some of them need."""
