"""Provider weather in an executor: its view of the circuits, who may start in it, and what calls say about it."""
