"""What happens to records: taken from agents and from the hub itself, kept, forwarded, witnessed, carried."""
