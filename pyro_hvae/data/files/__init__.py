"""Files: finds, downloads, verifies, unpacks and decodes them. Knows no data set."""
