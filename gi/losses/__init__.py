"""Losses, and the objective that joins them."""
