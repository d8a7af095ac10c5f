"""Registers the fixtures of the real servers for every test, and how tests are shared among workers."""

from __future__ import annotations

import signal
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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    from tests.system.stacks import scheduler

    return scheduler(config, log)
