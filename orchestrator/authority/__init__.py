"""The hub's certificate authority, and the certificates of its own processes."""
