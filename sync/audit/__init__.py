"""The audit log: records in a hash chain, trees over them, signed heads, and how they get from an agent to the hub.

Pure, but for `journal`, which writes to SQLite.
"""
