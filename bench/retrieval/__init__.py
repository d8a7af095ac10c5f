"""`make eval`: how well search finds, through HTTP, on collections whose answers are known."""
