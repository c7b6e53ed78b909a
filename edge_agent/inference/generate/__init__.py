"""Text generation: a continuous batcher over one decoder, and what turns requests into tokens and tokens into text.

`engine` is the way in; below it `batcher` (the one thread of a model), `request` (one sequence in the making), `decoder`
(steps over the key-value cache), `prefix` (what was computed before), `sampling`, `guidance` and `chat_template`.
"""
