"""Looks for what should not happen, mends it, and says so."""
