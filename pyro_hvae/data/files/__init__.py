"""Published and own files: found, downloaded, checked, unpacked, read."""
