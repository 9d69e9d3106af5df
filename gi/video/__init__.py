"""Video inpainting by keyframes and optical flow: `from gi.video import VideoInpainter`."""


def __getattr__(name):
    if name == "VideoInpainter":  # on demand: reading files needs none of what it imports
        from gi.video.keyframes.pipeline import VideoInpainter
        return VideoInpainter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
