"""The agents: how one is admitted, and which are there now."""
