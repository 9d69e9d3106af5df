"""The demo of a few minutes: results of the shipped network, then a short training."""
