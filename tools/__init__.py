"""What this project measures and studies itself with; not part of the package."""
