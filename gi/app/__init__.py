"""The app in the browser: mark an object, remove it, download the video."""
