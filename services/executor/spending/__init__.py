"""Budgets at work: set by people, reserved before every model call, settled after it, and waited for."""
