"""Releases of the agent: which are installed, the order for another one, and its trial."""
