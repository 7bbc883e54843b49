"""Speed of polytask against the same work done by other means, as ratios from one run."""
