"""Devices, random streams, signals, whole-or-nothing files, and the folders of data, cache and runs."""
