"""The papers' experiments as configs, with their published numbers as data."""
