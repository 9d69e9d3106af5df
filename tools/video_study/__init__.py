"""What each step of the video pipeline brings: `study` measures it, `python -m tools.video_study DAVIS` draws it."""
