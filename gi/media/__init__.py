"""Image and video files: reading and writing them, and the masks that belong to them."""
