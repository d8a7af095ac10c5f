"""How facts come into the timeline."""
