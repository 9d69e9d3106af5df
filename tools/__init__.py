"""Benchmarks, studies, trainings and the demo of this project; not part of the package."""
