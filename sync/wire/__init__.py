"""What travels between hub and agent: levels and zones, subjects, frames, messages, sessions. PROTOCOL.md tells it in words."""
