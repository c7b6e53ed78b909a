"""Requests that came to the site itself: run here, or sent on over the hub."""
