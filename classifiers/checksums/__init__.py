"""Check digits: what tells a real number from a look-alike. Each takes the bare digits or letters, and names its source."""
