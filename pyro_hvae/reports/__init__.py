"""Texts and tables over runs and data sets."""
