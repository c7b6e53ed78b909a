"""The hub's Merkle log of audit records: one tree a tenant, fed from journals, with signed checkpoints."""
