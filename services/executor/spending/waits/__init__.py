"""Nodes that wait for money, until there is room for their calls."""
