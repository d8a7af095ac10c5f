"""What those who judge results ask of the executor, and how their verdicts reach the owners of runs."""
