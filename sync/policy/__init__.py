"""The pure decisions made from a snapshot: who, may they, how much, where. No I/O, no clock, nobody asked."""
