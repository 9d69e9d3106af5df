"""Generators of all families, their parts, and the discriminator."""
