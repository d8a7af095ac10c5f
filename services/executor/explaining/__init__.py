"""What holds a run up, and who executes it."""
