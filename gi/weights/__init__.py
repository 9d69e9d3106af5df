"""Files of weights from elsewhere: reading them without running code, the originals' names, where each comes from."""
