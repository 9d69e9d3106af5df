"""Checks, benchmarks and a small training on a GPU in one run: python -m tools.gpu --help."""
