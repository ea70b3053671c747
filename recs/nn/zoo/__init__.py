"""One short file per named network."""
