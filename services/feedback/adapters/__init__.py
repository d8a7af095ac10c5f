"""What feedback reaches outside: the reviewing model."""
