"""A run on disk: configuration, directory, checkpoints, metric rows, loading."""
