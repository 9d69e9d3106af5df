"""The page in the browser: mark an object, watch it go, take the video home."""
