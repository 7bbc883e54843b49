"""What to choose before training: tasks to train together, branch points, thresholds."""
