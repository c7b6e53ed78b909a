"""The NATS server that the hub starts itself, or its own that follows the fleet."""
