"""Relays: which server takes a mail, how fast, and whether it is used at all."""
