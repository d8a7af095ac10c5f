"""Registers the fixtures of the real servers for every test."""

from __future__ import annotations

pytest_plugins = ["chassis.testing.plugin"]
