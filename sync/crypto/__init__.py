"""Hashes, signatures, sealing and encryption at rest, each bound to a named purpose. The door to `cryptography`.

Nothing here is an algorithm of our own: SHA-256, HMAC, HKDF, Ed25519 (RFC 8032), HPKE (RFC 9180) and AES-256-GCM.
"""
