"""People's orders to runs and nodes: judged, noted and left for the owner."""
