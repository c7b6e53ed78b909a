"""The line to the hub: its state, what goes out and comes in over it, and the ways without one."""
