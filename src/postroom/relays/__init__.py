"""relays."""
