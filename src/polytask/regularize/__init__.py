"""Divergences between the features of tasks."""
