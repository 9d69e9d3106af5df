"""What each choice of internal learning brings: `study` measures it, `python -m tools.internal_study` prints it."""
