"""Delivery: the only threads. It claims from storage, transmits over SMTP, records what came."""
