"""How frames travel: one port, two implementations (NATS and in memory) that pass one contract test."""
