"""Data sets that are computed, one module each."""
