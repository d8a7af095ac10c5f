"""A process of its own that makes vectors of texts with the local model, so that search stays fast meanwhile."""
