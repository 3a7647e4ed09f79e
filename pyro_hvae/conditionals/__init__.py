"""Networks that return a distribution, one family a file."""
