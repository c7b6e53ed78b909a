"""Answers that were given before, encrypted on the agent's disk."""
