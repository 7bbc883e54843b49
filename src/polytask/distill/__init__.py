"""Learning from other networks."""
