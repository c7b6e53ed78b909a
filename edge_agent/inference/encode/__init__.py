"""Encoders: vectors, labels and relevance of texts, and raw tensors, in micro-batches of like length on a few threads.

`engine` has the tasks; `batcher` the threads that they share; `tensors` runs models of any kind over what the caller gives.
"""
