"""A process of its own that takes one ZIP apart, under limits, with nothing but the standard library."""
