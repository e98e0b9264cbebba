"""SMTP: the only sockets. It speaks with relays and knows nothing of the database."""
