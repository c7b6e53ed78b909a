"""What hub and agent agree on, and how they come to agree.

Floors, lowest first: kit, crypto, wire, bundle beside audit, policy, bus, serving; terminal beside them. Pure but for `bus/`,
`serving/` and the files that say so. Nothing here knows the orchestrator, an agent or a classifier.
"""
