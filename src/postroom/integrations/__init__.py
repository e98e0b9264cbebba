"""Frameworks: one package each, which adapts `postroom.Outbox` to its settings and sessions."""
