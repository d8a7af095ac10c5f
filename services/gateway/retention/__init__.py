"""What becomes of old facts."""
