"""The agent: runs what a decision admits here, with its own models, and keeps its own journal.

`agent` is the composition root, over intake, runner, then guard, link, outbox, inference and cache, then identity.
"""
