"""What a trained network does inside: filters, gates, maps of where it looks."""
