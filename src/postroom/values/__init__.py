"""Values: what a mail is, as immutable objects. No I/O, no SQLAlchemy."""
