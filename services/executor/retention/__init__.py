"""What becomes of old runs."""
