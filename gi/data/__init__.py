"""Data sets, synthetic samples of photographs with their motion and holes, and the data module."""
