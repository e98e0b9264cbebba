"""Everything that reads or writes the database; the only package with SQL.

Unless it says otherwise, a function works in its caller's transaction and commits nothing.
"""
