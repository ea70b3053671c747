"""Torch: what networks are trained from, how, and the networks (`zoo`).  No Spark, no Delta here."""
