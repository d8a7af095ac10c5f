"""A whole turn in one statement, when nothing has to be read for it."""
