"""Data sets that are read from files, one module each, and a user's own data."""
