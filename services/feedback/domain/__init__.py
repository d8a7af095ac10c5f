"""Decisions about results and verdicts: pure."""
