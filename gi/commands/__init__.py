"""Command lines: what is typed becomes one call."""
