"""Pretext tasks: they make their own inputs and targets from unlabelled images."""
