"""Registers the fixtures of the real servers for every test, and how tests are shared among workers."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None)  # no test is timed: it would fail where the machine is busy
settings.load_profile("house")

pytest_plugins = ["chassis.testing.plugin"]


def pytest_configure() -> None:
    """Ctrl-C works in what tests start, even where we are a background job that a shell started without it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Once, before the workers are started: somebody may commit while they collect, and they must agree.
    os.environ.setdefault("CHAOS_HALF", str(_commits() % 2))


def _commits() -> int:
    """Zero without git, or without a history of this checkout."""
    counted = ["git", "rev-list", "--count", "--first-parent", "HEAD"]
    try:
        found = subprocess.run(counted, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return 0
    return int(found.stdout) if found.returncode == 0 else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    from tests.system.stacks import scheduler

    return scheduler(config, log)
