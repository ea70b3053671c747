"""The models, chosen by one name."""
