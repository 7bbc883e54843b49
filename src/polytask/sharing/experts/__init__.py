"""The expert family: backbones that belong to no task, mixed per task by gates."""
