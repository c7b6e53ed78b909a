"""From a decision and the fleet to a plan: the agents that may run it, in order of preference. Pure."""
