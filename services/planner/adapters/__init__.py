"""What the planner reaches outside: language models and task files."""
