"""Data sets by name: one file per source, named as in a config."""
