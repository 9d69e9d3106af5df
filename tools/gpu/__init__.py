"""One run that checks, times and tries everything on a graphics card: python -m tools.gpu --help."""
