"""Measurements too long for the test suite; each prints a table and stores JSON in benchmarks/results."""
