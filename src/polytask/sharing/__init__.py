"""How tasks share a network."""
