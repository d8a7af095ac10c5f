"""A process of its own that reads the text out of one document, under limits."""
