"""Storage: the only SQL. Every function runs in its caller's transaction; none commits."""
