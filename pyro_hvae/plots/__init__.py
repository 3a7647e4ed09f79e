"""Pictures of runs: the only room that imports matplotlib."""
