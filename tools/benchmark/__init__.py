"""Benchmarks of everything users wait for, compared with a roofline bound of the machine."""
