"""A nightly, time-aware recommender on Spark."""

__version__ = "0.1.0"
