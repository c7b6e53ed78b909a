"""What hub and agent agree on, and how they come to agree.

Floors, lowest first: kit, crypto, wire, bundle beside audit, bus. Pure but for `bus/` and the files that say so.
Nothing here knows the orchestrator, an agent or a classifier.
"""
