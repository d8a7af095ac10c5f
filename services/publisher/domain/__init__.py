"""Decisions about deliverables: pure."""
