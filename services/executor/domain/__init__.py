"""Every decision about runs and nodes: pure, with time and chance passed in."""
