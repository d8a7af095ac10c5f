"""The planner's decisions: pure functions over frozen values."""
