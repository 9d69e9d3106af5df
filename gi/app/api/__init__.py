"""The handlers of the addresses /api/… of the page. Slow work is done in threads, never in the event loop."""
