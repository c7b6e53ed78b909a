"""The signed snapshot of all that a decision needs, and the pure decisions made from it.

No file here does I/O, reads a clock or asks anybody: hub and agent get the same answer from the same bytes.
"""
