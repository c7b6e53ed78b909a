"""Models that nobody signed, in a process of their own: with a memory limit, without the agent's keys, and without a file to write.

`process` is the agent's end, `worker` the other; `frames` is what goes between them.
"""
