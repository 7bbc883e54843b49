"""Pretext tasks: they make their own inputs and targets from unlabelled images."""

NOT_NAMES = (
    "puzzle",
    "patches",
    "tiles",
    "permutations",
    "decoder",
    "lab",
    "ncut",
    "two_views",
    "teacher",
)
