"""The report's figures: pure functions from data to SVG, one file each."""
