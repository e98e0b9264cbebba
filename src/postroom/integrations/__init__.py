"""Postroom in the frameworks that applications are made with; each an extra of its own."""
