"""A confined process of its own for texts that take long to cut, so that no text makes a search wait."""
