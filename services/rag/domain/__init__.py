"""Decisions about knowledge: pure."""
