"""What each address /api/… of the page does. Slow work is done in threads, never in the event loop."""
