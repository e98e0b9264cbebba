"""Postroom: the email outbox for SQLAlchemy applications."""

__version__ = "0.1.0"
