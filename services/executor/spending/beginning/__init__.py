"""The beginning of a budget: what was spent before, and calls that are under way."""
